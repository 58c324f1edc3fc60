"""The page of the paper's claims: regenerated from the committed measurements, and from synthetic ones."""

import json
from pathlib import Path

import pytest

from acdit.cli.main import main
from acdit.studies.claims import CLAIMS
from acdit.studies.reproduction import page_text, read_findings
from acdit.training.plan import make_plan
from acdit.training.recipes import load_recipe
from tests.studies.test_claims import of_arm, rows_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reproduction.md"


@pytest.fixture(scope="module")
def nothing(tmp_path_factory) -> str:
    """The page without any measurements."""
    folder = tmp_path_factory.mktemp("nothing")
    return page_text(read_findings(CLAIMS, folder), folder)


def store(studies: Path, name: str, rows: list) -> None:
    (studies / name).mkdir(parents=True)
    content = {"study": name, "versions": ["9.9.9"], "setting": {"budget": "full"}, "rows": rows}
    (studies / name / "measurements.json").write_text(json.dumps(content))


def section(page: str, name: str) -> str:
    return page.split(f'<a id="{name}"></a>')[1].split("<a id=")[0]


def test_the_page_is_that_of_the_committed_measurements():
    """Byte for byte: a number that was changed by hand fails."""
    written = page_text(
        read_findings(CLAIMS, ROOT / "docs" / "studies"), PAGE.parent, PAGE.with_suffix(".png")
    )
    assert PAGE.read_text() == written


def test_without_measurements_everything_is_listed_as_not_run(nothing):
    assert f"{len(CLAIMS)} claims: 0 confirmed, 0 refuted, 0 undecided, 0 not learned" in nothing
    assert f"{len(CLAIMS)} not measured. 0 comparisons in all." in nothing
    for claim in CLAIMS:
        own = section(nothing, claim.name)
        assert "**Not measured**" in own and claim.said in own and claim.beyond in own
        for evidence in claim.evidence:
            assert f"Not run: `{evidence.command}`" in own
            assert f"- `{evidence.command}`" in nothing.split("## Not run")[1]
        for run in claim.full:
            assert run.command in own


def test_full_size_runs_cost_what_acdit_plan_says(nothing):
    (line,) = [
        line
        for line in section(nothing, "decay").splitlines()
        if line.startswith("| `acdit train imagenet256-xl`")
    ]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    recipe = load_recipe("imagenet256-xl")
    for cell, ranks in zip(cells[2:], (8, 256), strict=True):
        assert cell == f"{make_plan(recipe, ranks=ranks).hours:,.0f}"


def test_a_measured_claim_shows_its_comparisons_and_plot(tmp_path, nothing):
    studies = tmp_path / "docs" / "studies"
    store(studies, "ablation", rows_of("ablation", of_arm))
    (studies / "ablation" / "ablation.png").touch()
    store(studies, "baselines", rows_of("baselines", lambda row: -of_arm(row)))
    page = page_text(read_findings(CLAIMS, studies), tmp_path / "docs")
    assert "3 confirmed, 1 refuted, 0 undecided" in page
    clean, refuted = section(page, "clean"), section(page, "baselines")
    assert "**Confirmed**" in clean and "by acdit 9.9.9 ([measurements](studies/ablation))" in clean
    assert "1 comparison, paired by seed" in clean and "(studies/ablation/ablation.png)" in clean
    assert "| noised past against RoPE-ND, clean past | higher | +1 |" in clean
    # a refuted claim has the same parts; a study that was not run does not hide it
    assert "**Refuted** on 8x8 digits; not on MNIST" in refuted and refuted.count("| refuted |") == 3
    assert "3 comparisons, paired by seed" in refuted and "baselines.png" not in refuted
    assert "Not run: `acdit study baselines --data mnist --seeds 5`" in refuted
    assert "- `acdit study ablation --seeds 5`" not in page.split("## Not run")[1]
    assert "| [A clean past helps](#clean) | Fig. 6b | **confirmed** | 8x8 digits | 1 confirmed |" in page

    # a measurement that changes changes the page
    rows = rows_of("ablation", of_arm)
    rows[-1]["frechet_distance"] += 0.1
    (studies / "ablation" / "measurements.json").write_text(
        json.dumps({"setting": {"budget": "full"}, "rows": rows})
    )
    assert section(page_text(read_findings(CLAIMS, studies), tmp_path / "docs"), "clean") != clean


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "measured", "ablation", rows_of("ablation", of_arm))
    assert main(["study", "report", "--studies", "measured", "--out", "pages/claims.md"]) == 0
    out = capsys.readouterr().out
    assert "A clean past helps" in out and "written: pages/claims.md" in out
    assert "([measurements](../measured/ablation))" in Path("pages/claims.md").read_text()
    assert main(["study", "report", "--help"]) == 0 and "--studies" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (None, ["--studies", "nowhere"], "--studies must be a folder of measurements, and nowhere is none"),
        (None, ["--out", "file/page.md"], "cannot be written"),
        ("{", [], "measurements.json"),
        (
            '{"setting": {"budget": "full"}, "rows": [{"frechet_distance": "low", "arm": "ACDiT"}]}',
            [],
            "seed",
        ),
        (
            '{"setting": {"budget": "full"}, "rows": [{"frechet_distance": "x", "arm": "ACDiT", "seed": 0}]}',
            [],
            "must be a number",
        ),
        (
            '{"setting": {"budget": "full"}, "rows": [{"arm": "ACDiT", "seed": 0, "frechet_distance": '
            + "9" * 400
            + "}]}",
            [],
            "large",
        ),
        (
            '{"setting": {"budget": "full"}, "rows": [{"frechet_distance_real": 4.38}, '
            '{"frechet_distance_real": 4.43}]}',
            [],
            "different fits of the evaluator have scored: measure them again with `acdit study baselines",
        ),
        ("[]", [], "measurements.json"),
        ('{"setting": {"budget": "quick"}, "rows": []}', [], "with budget quick, but those of the page"),
        ('{"study": "blocks", "setting": {}, "rows": []}', [], "of the study blocks, not of baselines"),
    ],
)
def test_refusals(content, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("docs/studies/baselines").mkdir(parents=True)
    if content is not None:
        Path("docs/studies/baselines/measurements.json").write_text(content)
    assert main(["study", "report", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not Path("docs/reproduction.md").exists()
