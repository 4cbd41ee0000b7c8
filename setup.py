"""The thin entry that users of this ecosystem expect; settings of the tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
TEST = ["pytest>=7.4", "pytest-xdist>=3.5", "hypothesis>=6.80", "scipy>=1.10"]


def requirements(name: str) -> list:
    lines = (line.split("#")[0].strip() for line in (HERE / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


setup(
    name="paddlefcn",
    version="0.1.0",
    description="Semantic segmentation with fully convolutional networks in PaddlePaddle",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # the recipes stand beside the package in a checkout and inside it in a wheel
    packages=[
        *find_namespace_packages(include=["paddlefcn", "paddlefcn.*"]),
        *("paddlefcn.configs", "paddlefcn.configs._base_"),
    ],
    package_dir={"paddlefcn.configs": "configs"},
    package_data={
        "paddlefcn": ["py.typed"],
        "paddlefcn.accelerator.sources": ["*.cpp", "*.h"],
        "paddlefcn.configs": ["*.yml", "_base_/*.yml"],
        "paddlefcn.configs._base_": ["*.yml"],
    },
    install_requires=requirements("requirements.txt"),
    extras_require={
        "test": TEST,
        "crf": ["scipy>=1.10"],  # several times as fast; the CRF runs without
        "albumentations": ["albumentations>=2.0"],  # pipelines that A.save wrote
        "sbd": ["scipy>=1.10"],  # SBD's masks are .mat files
        "medical": ["nibabel>=5.0", "pydicom>=2.4"],  # NIfTI volumes and DICOM pictures
        # paddle2onnx converts while exporting; where an export runs, onnxruntime or openvino alone is enough
        "onnx": ["paddle2onnx>=2.0", "onnx>=1.16", "onnxruntime>=1.17"],
        "openvino": ["paddle2onnx>=2.0", "onnx>=1.16", "onnxruntime>=1.17", "openvino>=2024.0"],
        "dev": [*TEST, "ruff>=0.9", "mypy>=1.10", "types-PyYAML", "pre-commit>=3.5"],
    },
    entry_points={"console_scripts": ["paddlefcn = paddlefcn.commands:console"]},
)
