"""The CRF against mean field over every pair of pixels, and the lattice against Gaussian sums written out."""

import dataclasses

import numpy as np
import pytest

from paddlefcn.refine import crf, permutohedral
from paddlefcn.refine.crf import DenseCRF
from paddlefcn.refine.permutohedral import Lattice
from paddlefcn.refine.settings import CrfSettings

# an image of 32x32 spans several of these sigmas, as one of 375x500 does of the defaults
SMALL = CrfSettings(bilateral_sigma=12, color_sigma=20, bilateral_weight=6)


@pytest.fixture(params=["scipy", "numpy"])
def sums(request, monkeypatch):
    """Both ways to splat and slice."""
    if request.param == "numpy":
        monkeypatch.setattr(permutohedral, "sparse", None)
    elif permutohedral.sparse is None:
        pytest.skip("scipy is not installed")
    return request.param


def picture(seed, channels=3, size=(32, 32)):
    """Flat regions with noise, and unsure class scores with some of the regions in them."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]]
    regions = (rows * 2 > cols + 10).astype(int) + (cols > size[1] * 2 // 3)
    image = rng.integers(0, 256, (3, channels))[regions] + rng.normal(0, 8, (*size, channels))
    scores = 1.5 * rng.normal(size=(4, *size)) + 2.0 * (np.arange(4)[:, None, None] == regions)
    p = np.exp(scores)
    return np.clip(image, 0, 255).astype(np.uint8), (p / p.sum(axis=0)).astype(np.float32)


def mean_field(image, probabilities, settings):
    """Every pair of pixels, in double precision."""
    height, width = image.shape[:2]
    rows, cols = np.mgrid[:height, :width]
    place = np.stack([rows.ravel(), cols.ravel()], axis=1).astype(float)
    colour = image.reshape(height * width, -1).astype(float)
    apart = ((place[:, None] - place[None]) ** 2).sum(axis=2)
    unlike = ((colour[:, None] - colour[None]) ** 2).sum(axis=2)
    smooth = np.exp(-apart / (2 * settings.smooth_sigma**2))
    bilateral = np.exp(-apart / (2 * settings.bilateral_sigma**2) - unlike / (2 * settings.color_sigma**2))
    log_p = np.log(np.maximum(probabilities.reshape(len(probabilities), -1).T.astype(float), 1e-5))
    q = np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True)
    for _ in range(settings.steps):
        energy = log_p.copy()
        for weight, k in ((settings.smooth_weight, smooth), (settings.bilateral_weight, bilateral)):
            sums = k.sum(axis=1)
            energy += weight * (k / np.sqrt(sums[:, None] * sums[None])) @ q
        q = np.exp(energy - energy.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
    return q.T.reshape(probabilities.shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_crf_is_mean_field_over_every_pair_of_pixels(seed, channels, sums):
    image, p = picture(seed, channels)
    wanted, got = mean_field(image, p, SMALL), DenseCRF(SMALL)(image, p)
    assert (wanted.argmax(axis=0) != p.argmax(axis=0)).mean() > 0.1  # the CRF has something to do
    assert (wanted.argmax(axis=0) == got.argmax(axis=0)).mean() >= 0.98
    assert np.abs(wanted - got).mean() < 0.015
    assert got.sum(axis=0) == pytest.approx(np.ones(got.shape[1:]), abs=1e-5)


def test_the_tutorials_values_are_the_defaults_and_agree_with_mean_field_too(sums):
    assert CrfSettings() == CrfSettings(3.0, 3.0, 10.0, 80.0, 13.0, 5)
    image, p = picture(1)
    wanted, got = mean_field(image, p, CrfSettings()), DenseCRF()(image, p)
    assert (wanted.argmax(axis=0) == got.argmax(axis=0)).mean() >= 0.99


def test_the_smooth_kernel_alone_is_exact():
    image, p = picture(0)
    settings = CrfSettings(bilateral_weight=0)
    assert DenseCRF(settings)(image, p) == pytest.approx(mean_field(image, p, settings), abs=1e-3)


def test_without_kernels_the_probabilities_stay():
    image, p = picture(0)
    assert DenseCRF(CrfSettings(bilateral_weight=0, smooth_weight=0))(image, p) == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 9])
def test_the_lattice_sums_as_a_gaussian_does(dimensions, sums):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, dimensions)) * 1.2 / np.sqrt(dimensions)
    values = rng.random((400, 3)).astype(np.float32)
    exact = np.exp(-0.5 * ((points[:, None] - points[None]) ** 2).sum(axis=2))
    lattice = Lattice(points)
    got = lattice.filter(values) / lattice.filter(np.ones((400, 1), np.float32))
    wanted = exact @ values / exact.sum(axis=1, keepdims=True)
    assert np.abs(got - wanted).mean() < 0.02
    assert np.corrcoef(lattice.filter(values)[:, 0], (exact @ values)[:, 0])[0, 1] > 0.97


def test_numpy_and_scipy_agree_to_rounding(monkeypatch):
    if permutohedral.sparse is None:
        pytest.skip("scipy is not installed")
    image, p = picture(3)
    fast = DenseCRF(SMALL)(image, p)
    monkeypatch.setattr(permutohedral, "sparse", None)
    assert DenseCRF(SMALL)(image, p) == pytest.approx(fast, abs=1e-3)


def test_a_border_moves_to_the_edge_of_the_image():
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, 20:] = 200
    p = np.full((2, 30, 40), 0.3, np.float32)
    p[1, :, 16:] = 0.7  # four columns too early
    p[0] = 1 - p[1]
    assert (DenseCRF()(image, p).argmax(axis=0) == (image[:, :, 0] > 100)).all()


@pytest.mark.parametrize(("dtype", "top"), [(np.uint16, 65535), (np.float32, 1.0)])
def test_colours_count_by_their_share_of_the_range(dtype, top):
    image, p = picture(2)
    other = (image.astype(np.float64) / 255 * top).astype(dtype)
    got = DenseCRF(SMALL, value_range=top)(other, p)
    assert (got.argmax(axis=0) == DenseCRF(SMALL)(image, p).argmax(axis=0)).mean() > 0.995


def test_not_a_number_in_an_image_spoils_no_pixel():
    image, p = picture(2)
    broken = image.astype(np.float32)
    broken[3, 4] = np.nan
    assert np.isfinite(DenseCRF(SMALL)(broken, p)).all()


def test_tiles_agree_with_the_whole(monkeypatch):
    image, p = picture(5, size=(70, 90))
    settings = dataclasses.replace(SMALL, bilateral_sigma=6)
    whole = DenseCRF(settings)(image, p).argmax(axis=0)
    monkeypatch.setattr(crf, "_WHOLE", 1000)
    monkeypatch.setattr(crf, "_TILE", 60)
    monkeypatch.setattr(crf, "_MARGIN", 18)
    assert (DenseCRF(settings)(image, p).argmax(axis=0) == whole).mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 2)])
def test_the_smallest_images_are_refined(size, sums):
    image, p = picture(0, size=size)
    assert DenseCRF()(image, p).shape == p.shape


def test_an_image_of_another_size_is_refused():
    image, p = picture(0)
    with pytest.raises(ValueError, match="must be equal"):
        DenseCRF()(image[:5], p)
    with pytest.raises(ValueError, match="value_range"):
        DenseCRF(value_range=0)
