"""Sections of papers that code and docs name: each exists in the paper, and is about what is said."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("segjax", "configs", "data_builders", "docs", "benchmarks", "README.md")
# by which the text around a citation, and the paper, name its subject; VPLR's own recipe says "paper" for VPLR
SUBJECTS = {
    ("vplr", "3.2"): r"propagat",
    ("vplr", "3.4"): r"boundary|softmax|window",
    ("vplr", "4.1"): r"learning rate|SGD|class uniform|coarse|Mapillary",
    ("vplr", "4.2"): r"Mapillary",
    ("vplr", "A"): r"epochs",
    ("vplr", "C"): r"cities",
    ("csst", "3.2"): r"centroid",
    ("csst", "3.3"): r"crop",
    ("csst", "3.1"): r"pseudo.label|unlabelled",
    ("csst", "4.2"): r"fine-?tun",
    ("csst", "4.4"): r"CamVid",
    ("csst", "4.6"): r"shot",
    ("csst", "4.6.2"): r"Mapillary",
    ("ldn", "3.1"): r"spli?t",
    ("ldn", "3.2"): r"pyramid",
    ("ldn", "3.3"): r"transition",
    ("ldn", "5.1"): r"soft|target|batchnorm",
    ("ldn", "5.4"): r"ScanNet",
    ("ldn", "5.6"): r"disabl",
    ("ldn", "5.7"): r"1x1|checkpoint|segment",
    ("ldn", "5.8"): r"upsampling path",
}
PAPERS = {"vplr": r"VPLR|Zhu et al|Paper", "csst": r"CSST", "ldn": r"Ladder-style"}
SECTIONS = re.compile(
    r"(?P<paper>VPLR|Zhu et al\.|CSST|Ladder-style|Paper)[^\n.:;|]{0,70}?(?:\n\s*)?"
    r"\b(?:sections?|appendix) (?P<first>[A-Z0-9][\d.]*\d|[A-Z])\b(?: and (?P<second>\d[\d.]*\d))?"
)


def citations() -> list[tuple[str, str, str, str]]:
    """(file, paper, section, file and text around it)."""
    found = []
    for place in PLACES:
        path = ROOT / place
        files = [path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.md")])
        for file in files:
            name, text = file.relative_to(ROOT).as_posix(), file.read_text()
            for match in SECTIONS.finditer(text):
                paper = next(paper for paper, words in PAPERS.items() if re.search(words, match["paper"]))
                around = name + text[max(match.start() - 250, 0) : match.end() + 250]
                sections = filter(None, (match["first"], match["second"]))
                found += [(name, paper, section, around) for section in sections]
    return found


CITATIONS = citations()


def test_the_known_citations_are_found():
    found = {(file, paper, section) for file, paper, section, _ in CITATIONS}
    assert {
        ("segjax/losses/relaxation.py", "vplr", "3.4"),
        ("segjax/ops/windows.py", "vplr", "3.4"),
        ("docs/training.md", "vplr", "3.4"),
        ("segjax/data/plans.py", "vplr", "4.1"),
        ("segjax/data/plans.py", "csst", "3.2"),
        ("segjax/propagation/carry.py", "vplr", "3.2"),
        ("segjax/data/derived.py", "vplr", "3.2"),
        ("segjax/stages/propagated_records.py", "vplr", "3.2"),
        ("configs/common.py", "vplr", "A"),
        ("configs/transfer.py", "vplr", "4.2"),
        ("configs/vplr.py", "vplr", "4.1"),
        ("docs/datasets.md", "csst", "4.6.2"),
        ("segjax/losses/soft_targets.py", "ldn", "5.1"),
    } <= found


@pytest.mark.parametrize(
    "file, paper, section, around", [pytest.param(*c, id=f"{c[0]}-{c[1]}-{c[2]}") for c in CITATIONS]
)
def test_a_cited_section_is_about_what_is_said(file, paper, section, around, papers):
    assert (paper, section) in SUBJECTS, f"{file} cites {paper} {section}, which this test does not know"
    subject = SUBJECTS[paper, section]
    assert re.search(subject, around, re.IGNORECASE), f"{file} cites {paper} {section} for something else: {around}"
    assert re.search(subject, text_of(papers / f"{paper}.txt", section), re.IGNORECASE)


def text_of(paper: Path, section: str) -> str:
    """A section with its subsections, from its heading to the next one of its level."""
    lines, level = paper.read_text().splitlines(), section.count(".")
    number = re.compile(r"^[#* ]*([A-Z]|[A-Z]?\.?\d+(?:\.\d+)*)\.?\** (?:\*\*)?[A-Z]")
    heads = [(i, match[1]) for i, line in enumerate(lines) if (match := number.match(line)) and len(line) < 120]
    start = next(i for i, name in heads if name == section)
    end = next((i for i, name in heads if i > start and name.count(".") <= level), len(lines))
    return "\n".join(lines[start:end])


def test_mapillary_has_66_labels_and_65_classes():
    from segjax.data.classes import CLASSES

    table = CLASSES["mapillary"]
    assert (len(table.labels), table.num_classes) == (66, 65)
    assert [label.name for label in table.labels if label.train_id == 255] == ["Unlabeled"]
