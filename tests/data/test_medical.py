"""Slices of NIfTI volumes and DICOM pictures, from files that the formats' own libraries wrote."""

import numpy as np
import pytest

from paddlefcn.data.datasets import SegmentationDataset, Volumes
from paddlefcn.data.images import read_image
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")


def save(path, array):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_slice_of_two_channels_and_a_mask_is_a_sample(tmp_path, suffix, axis):
    rng = np.random.default_rng(0)
    t1 = rng.normal(size=(7, 8, 9)).astype(np.float32)
    t2 = rng.integers(-50, 900, (7, 8, 9)).astype(np.int16)
    mask = rng.choice([0, 1, 2, 4], (7, 8, 9))
    for name, array in (("t1", t1), ("t2", t2), ("m", mask.astype(np.float64))):
        save(tmp_path / f"{name}.{suffix}", array)
    (tmp_path / "train.txt").write_text(f"t1.{suffix},t2.{suffix} m.{suffix}\n")
    reader = LabelReader(4, label_map={0: 0, 1: 1, 2: 2, 4: 3})
    dataset = SegmentationDataset(Volumes(tmp_path, "train", axis=axis), reader, 2)
    assert len(dataset) == t1.shape[axis]
    for index in range(len(dataset)):
        image, label = dataset.read(index)
        expected = np.stack([np.take(t1, index, axis).T, np.take(t2, index, axis).T], 2)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(label, np.take(np.where(mask == 4, 3, mask), index, axis).T)


def test_volumes_that_do_not_fit_are_refused_with_their_names(tmp_path):
    save(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8))
    save(tmp_path / "m.nii", np.zeros((4, 5, 7), np.uint8))
    save(tmp_path / "flat.nii", np.zeros((4, 5), np.uint8))
    (tmp_path / "text.nii").write_text("no volume")
    for line, part in (
        ("a.nii m.nii", r"m\.nii: \(7, 5, 4\) slices"),
        ("flat.nii m.nii", r"flat\.nii: a volume of shape \(4, 5\)"),
        ("text.nii m.nii", r"text\.nii: cannot be read"),
        ("none.nii m.nii", r"none\.nii: no such file"),
    ):
        (tmp_path / "train.txt").write_text(line)
        with pytest.raises(DataError, match=part):
            Volumes(tmp_path, "train")


def save_dicom(path, pixels, **attributes):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(file, name, value)
    file.save_as(path)


def test_a_dicom_picture_is_read_in_its_rescaled_values(tmp_path):
    pixels = np.arange(48, dtype=np.int16).reshape(6, 8) * 10
    save_dicom(tmp_path / "a.dcm", pixels, RescaleSlope=2, RescaleIntercept=-1024)
    image = read_image(tmp_path / "a.dcm", 1)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[:, :, 0], pixels * 2.0 - 1024)
    np.testing.assert_array_equal(read_image((tmp_path / "a.dcm").read_bytes(), 3)[:, :, 1], image[:, :, 0])
    save_dicom(tmp_path / "b.dcm", pixels.astype(np.uint16), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm", 1)[:, :, 0], 470 - pixels)
    with pytest.raises(DataError, match=r"a\.dcm: 6x8 pixels are more than data.max_pixels 40"):
        read_image(tmp_path / "a.dcm", 1, max_pixels=40)
    (tmp_path / "c.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"c\.dcm: cannot be read"):
        read_image(tmp_path / "c.dcm", 1)
