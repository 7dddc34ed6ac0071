import struct
import zlib

import pytest

from arch.spec import SpecError, UserError
from tests.train.data.debs import pin_deb, write_deb
from train.data import sword
from train.data.bible import BibleVerses, aligned, verses
from train.data.debian import SWORD

CHAPTERS = {"ot": {"Gen": [5, 4, 3], "Exod": [3] * 30}, "nt": {"Matt": [4, 6] * 10}}
WORDS = {"web": "verse {} of chapter {} in English", "sparv": "versículo {} del capítulo {} en castellano"}


def module(words, chapters=CHAPTERS, verse="<IIH"):
    """The files of a module: two blocks a testament, and the tags that real ones have."""
    files = {}
    for testament, books in chapters.items():
        found = ["", "<milestone/>"]
        for book, counts in books.items():
            found.append(f'<div canonical="true" osisID="{book}" sID="g1" type="book"/> <title>{book}</title> ')
            for chapter, count in enumerate(counts, start=1):
                name = f"{book}.{chapter}"
                found.append(f'<div sID="g2" type="x-p"/><chapter n="{chapter}" osisID="{name}" sID="{name}"/>')
                found += [words.format(f"<w lemma='strong:H1'>{n}</w>", name) for n in range(1, count + 1)]
                found[-1] += f'<chapter eID="{name}"/><div type="colophon"/>the glossary'
        halves = [[text.encode() for text in half] for half in (found[: len(found) // 2], found[len(found) // 2 :])]
        blocks, index, packed = b"", b"", b""
        for number, half in enumerate(halves):
            data = zlib.compress(b"".join(half))
            blocks += struct.pack("<III", len(packed), len(data), len(b"".join(half)))
            packed += data
            index += b"".join(struct.pack(verse, number, len(b"".join(half[:i])), len(t)) for i, t in enumerate(half))
        files |= {f"{testament}.bzs": blocks, f"{testament}.bzv": index, f"{testament}.bzz": packed}
    return files


def package(folder, name, files):
    members = {f"usr/share/sword/modules/texts/ztext/{name}/{file}": content for file, content in files.items()}
    return write_deb(folder, SWORD[name].file, members | {"usr/share/sword/mods.d/x.conf": b"ot.bzs"})


@pytest.fixture
def packages(tmp_path, monkeypatch):
    for name, words in WORDS.items():
        pin_deb(monkeypatch, "SWORD", name, package(tmp_path / "debs", name, module(words)))
    return tmp_path / "debs"


@pytest.mark.parametrize("verse", ["<IIH", "<III"])
def test_every_verse_is_found_by_chapter_and_number(verse):
    found = sword.verses(module(WORDS["web"], verse=verse))
    chapters = {f"{book}.{i}": count for books in CHAPTERS.values() for book, counts in books.items()
                for i, count in enumerate(counts, start=1)}  # fmt: skip
    assert found == {(name, n): f"verse {n} of chapter {name} in English"
                     for name, count in chapters.items() for n in range(1, count + 1)}  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ('<w lemma="strong:H1">In</w> <w>the</w> <w>beginning</w>, <w>God</w><note n="1">Elohim.</note><w>created</w> ',
         "In the beginning, God created"),
        ("the Lord<note>Yah</note>, our God", "the Lord, our God"),
        ('rey <transChange type="added">se</transChange><w>llamaba</w> ¿<w>Quién</w>?', "rey se llamaba ¿Quién?"),
        ('<title>Psalm</title><l level="1" sID="a"/>Yahweh&amp;<l eID="a"/> <q marker="“"/>“so” ', "Yahweh& “so”"),
        ('¶ end.<chapter eID="Gen.1"/><div/>glossary', "end."),
        ('<chapter eID="Num.12"/>', ""),
        ("<note>Some manuscripts add: <rdg>But it</rdg>.</note> ", ""),
    ],
)  # fmt: skip
def test_markup_is_taken_out(entry, text):
    assert sword.plain(entry) == text


def test_verses_of_the_same_number_are_pairs_divided_by_chapter(packages):
    source = BibleVerses(validation=0.2, test=0.2)
    corpus = source.build()
    found = {split: list(corpus.pairs(split)) for split in source.splits}
    pairs = [pair for split in found.values() for pair in split]
    assert len(pairs) == len(set(pairs)) == 202
    for english, spanish in pairs:
        assert [w for w in english.split() if w in spanish.split()] == [english.split()[1], english.split()[4]]
    chapters = [{english.split()[4] for english, _ in split} for split in found.values()]
    assert sum(map(len, chapters)) == 53
    assert min(map(len, chapters)) > 3


def test_chapters_that_are_numbered_differently_are_left_out():
    """Gen.2 ends in another number, Gen.3 follows it; Exod.1 is of another book."""
    chapters = [("Gen.1", 2), ("Gen.2", 3), ("Gen.3", 2), ("Gen.4", 1), ("Exod.1", 1)]
    one = {(chapter, n): f"{chapter}:{n}" for chapter, count in chapters for n in range(1, count + 1)}
    other = {verse: f"{text}!" for verse, text in one.items() if verse != ("Gen.2", 3)}
    kept = {record["document"] for record in aligned(one, other)}
    assert kept == {record["document"] for record in aligned(other, one)} == {"Gen.1", "Gen.4", "Exod.1"}
    del one["Gen.4", 1]
    assert [record["document"] for record in aligned(one, other)] == ["Gen.1", "Gen.1", "Exod.1"]
    missing = {verse: text for verse, text in other.items() if verse != ("Gen.1", 1)}
    assert [record["source"] for record in aligned(one, missing)] == ["Gen.1:2", "Exod.1:1"]


def test_what_is_wrong_is_one_clear_line(packages, monkeypatch):
    with pytest.raises(SpecError, match="must be another version than the source"):
        BibleVerses("web", "web")
    files = module(WORDS["web"])
    for broken in ({**files, "ot.bzz": files["ot.bzz"][:40]}, {**files, "nt.bzv": files["nt.bzv"][:-3]},
                   {name: files[name] for name in files if name != "nt.bzs"}):  # fmt: skip
        pin_deb(monkeypatch, "SWORD", "web", package(packages, "web", broken))
        with pytest.raises(UserError, match=r"sword-text-web_.*\.deb is not laid out as expected") as error:
            verses("web")
        assert "\n" not in str(error.value)
