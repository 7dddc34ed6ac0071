import re
from html.parser import HTMLParser

import pytest

from arch.spec import SpecError, UserError
from tests.train.data.debs import pin_deb, write_deb
from train.data.debian import LIBREOFFICE
from train.data.libreoffice import LibreOfficeHelp, paragraphs

PAGE = """<html><body><p dir="auto">no id</p><div id="par_id1">no paragraph</div>
<h1 id="hd_id1" dir="auto"><a name="x"></a>{0} &amp; <b>more</b></h1>
<p id="par_id2" class="p" dir="auto">Choose <span class="emph">{0} & Big
 House</span>,<br/>please.</p><p id="par_id2">again</p>
<p class="p" id="par_id3">{0} stands on this page alone</p><p id="bm_module"></p></body></html>"""
WORDS = {"en": "the green house number {}", "de": "das grüne Haus Nummer {}", "fr": "la maison verte numéro {}"}
FOLDERS = {"en": "en-US", "de": "de", "fr": "fr"}


def pages(language, count=40):
    found = {f"text/shared/{i}.html": PAGE.format(WORDS[language].format(i)) for i in range(count)}
    return found | {f"text/swriter/{language}.html": PAGE.format("only here")}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    for language, package in LIBREOFFICE.items():
        start = f"usr/share/libreoffice/help/{FOLDERS[language]}/"
        members = {start + name: page.encode() for name, page in pages(language).items()} | {start + "x.js": b"{"}
        path = write_deb(tmp_path / "debs", f"{package.name}_4%3a9_all.deb", members)
        pin_deb(monkeypatch, "LIBREOFFICE", language, path)
    return tmp_path / "debs"


def test_paragraphs_are_those_of_an_html_parser():
    class Reader(HTMLParser):
        found, name = {}, None

        def handle_starttag(self, tag, attrs):
            identifier = dict(attrs).get("id", "")
            if tag == "br" and self.name:
                self.handle_data(" ")
            elif re.fullmatch("p|h[1-6]", tag):
                new = re.match("(par|hd)_id", identifier) and identifier not in self.found
                self.name = identifier if new else None

        def handle_endtag(self, tag):
            self.name = None if re.fullmatch("p|h[1-6]", tag) else self.name

        def handle_data(self, data):
            if self.name:
                self.found[self.name] = self.found.get(self.name, "") + data

    page, reader = pages("de")["text/shared/3.html"], Reader()
    reader.feed(page)
    found = paragraphs(page)
    assert found == {name: " ".join(text.split()) for name, text in reader.found.items()}
    assert found["par_id2"] == "Choose das grüne Haus Nummer 3 & Big House, please."
    assert list(found) == ["hd_id1", "par_id2", "par_id3"]


def test_pairs_are_of_the_same_page_and_id(packages):
    source = LibreOfficeHelp(validation=0.2, test=0.2)
    corpus = source.build()
    found = {split: list(corpus.pairs(split)) for split in source.splits}
    every = {pair for pairs in found.values() for pair in pairs}
    assert every == {
        (text, german[name])
        for i in range(40)
        for german in [paragraphs(pages("de")[f"text/shared/{i}.html"])]
        for name, text in paragraphs(pages("en")[f"text/shared/{i}.html"]).items()
    }
    assert sum(map(len, found.values())) == 120
    numbers = [{re.search(r"\d+", text)[0] for text, _ in pairs} for pairs in found.values()]
    assert sum(map(len, numbers)) == 40  # each page stands in one split
    assert min(map(len, numbers)) > 2


def test_the_other_direction_has_the_same_pairs_in_the_same_splits(packages):
    forth, back = LibreOfficeHelp("en", "fr", validation=0.2), LibreOfficeHelp("fr", "en", validation=0.2)
    for split in forth.splits:
        pairs = {(b, a) for a, b in back.build().pairs(split)}
        assert set(forth.build().pairs(split)) == pairs


def test_what_is_left_out(packages, tmp_path):
    """By length, by words, by ratio, equal sides, and sides that occurred before."""
    texts = [
        ("a text of five words here", "ein Text von fünf Wörtern"),
        ("A  text of five words HERE", "noch ein Text von fünf Wörtern"),
        ("four words in this", "genau fünf Worte sind das"),
        ("it is the same everywhere", "it is the same everywhere"),
        ("a short text of words", "ein Text, der " + "mehr als doppelt so lang ist " * 3),
        ("a long one " * 30, "ein langer " * 30),
        ("one two three four five", "eins zwei drei vier fünf"),
    ]
    for side, language in enumerate(("en-US", "de")):
        folder = tmp_path / "help" / language / "text"
        folder.mkdir(parents=True)
        for page in ("a.html", "b.html"):  # the second page repeats the first
            body = "".join(f'<p id="par_id{i}">{pair[side]}</p>' for i, pair in enumerate(texts))
            (folder / page).write_text(body, encoding="utf-8")
    source = LibreOfficeHelp(validation=0.5, test=0, folder=str(tmp_path / "help"))
    with pytest.raises(UserError, match="no document in split"):  # one page is left, so one split is empty
        source.build()
    (tmp_path / "help" / "en-US" / "text" / "c.html").write_text('<p id="par_id9">this stands on another page</p>')
    (tmp_path / "help" / "de" / "text" / "c.html").write_text('<p id="par_id9">das steht auf anderer Seite</p>')
    corpus = LibreOfficeHelp(validation=0.5, test=0, folder=str(tmp_path / "help")).build()
    pairs = {pair for split in ("train", "validation") for pair in corpus.pairs(split)}
    assert pairs == {texts[0], texts[6], ("this stands on another page", "das steht auf anderer Seite")}


def test_the_identity_is_of_the_content(packages, monkeypatch):
    before = LibreOfficeHelp().identity()
    assert LibreOfficeHelp().identity() == before != LibreOfficeHelp(words=4).identity()
    deb = next(packages.glob("libreoffice-help-de_*"))
    deb.write_bytes(deb.read_bytes() + b"\n")
    assert LibreOfficeHelp().identity() != before


def test_what_is_wrong_is_one_clear_line(packages, tmp_path):
    with pytest.raises(SpecError, match="must be another language than the source"):
        LibreOfficeHelp("de", "de")
    with pytest.raises(SpecError, match="must be one of en, de, fr"):
        LibreOfficeHelp("en", "nl")
    write_deb(packages, "libreoffice-help-de_4%3a9_all.deb", {"usr/share/doc/a": b""})
    with pytest.raises(UserError, match=r"libreoffice-help-de_.* holds no pages of LibreOffice's help in 'de'"):
        LibreOfficeHelp().build()
