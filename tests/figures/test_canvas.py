import pytest

from medtune.figures.canvas import cases, heading, new_figure, short_count, shorten, told


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (9949, "9.9k"), (9950, "10k"), (314_000, "314k"), (1_200_000, "1.2M")],
)
def test_a_count_in_four_characters(count: int, wanted: str) -> None:
    assert short_count(count) == wanted and len(wanted) <= 4


def test_names_are_one_short_line() -> None:
    assert shorten("two\nlines", 20) == "two lines"
    assert shorten("Collecting Duct, Connecting Tubule", 18) == "Collecting Duct\u2026"
    assert [len(shorten("x" * length, 5)) for length in (4, 5, 6)] == [4, 5, 5]


def test_numbers_in_words() -> None:
    assert (cases(1), cases(1200)) == ("1 case", "1,200 cases")
    assert (told(0.12345), told(float("nan"))) == ("0.123", "none")


@pytest.mark.parametrize("title", ["AUROC 0.912", "mean average precision undefined on 112,120 cases with more words"])
def test_a_heading_fits(title: str) -> None:
    figure = new_figure(4, 4)
    heading(figure, title)
    box = figure.texts[0].get_window_extent()
    assert box.x0 > 0 and box.x1 < 400
