"""An id means one file: what ``index`` does where a folder, or another, is indexed again."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

import vecbridge as vb
from tests.cli.conftest import GALLERY, Run

STORES = {"faiss": "faiss:store#photos", "milvus-lite": "milvus+lite:store.db#photos"}
PICTURES = sorted(GALLERY.glob("1f4*.png"))


def folder(path: Path, **names: int) -> Path:
    """A folder with pictures of the gallery, {name: number}; two underscores are a slash."""
    for name, number in names.items():
        target = path / f"{name.replace('__', '/')}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURES[number], target)
    return path


def paths(url: str) -> dict[str, str]:
    """The last two parts of the path of each record, by its id."""
    with vb.connect(url.partition("#")[0]) as store, store.open("photos") as photos:
        rows = [row for page in photos.scan(include=["path"]) for row in page.batch.to_pylist()]
    return {row["id"]: "/".join(Path(row["path"]).parts[-2:]) for row in rows}


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "milvus-lite":
        pytest.importorskip("milvus_lite")
    return STORES[request.param]


class TestOneIdForTwoFiles:
    """Folders that hold the same names."""

    def test_it_stops_and_names_both(self, run: Run, tmp_path: Path, url: str) -> None:
        folder(tmp_path, y2019__IMG_0001=0, y2020__IMG_0001=1, y2020__IMG_0002=2)
        assert run("index", "y2019", "--store", url).code == 0
        again = run("index", "y2020", "--store", url)
        assert again.code == 1
        assert f"{tmp_path}/y2019/IMG_0001.png" in again.err
        assert f"{tmp_path}/y2020/IMG_0001.png" in again.err
        assert "--prefix" in again.err
        assert paths(url) == {"IMG_0001.png": "y2019/IMG_0001.png"}, "nothing of the batch was written"

    @pytest.mark.parametrize(
        ("policy", "kept", "skipped"), [("skip", "y2019/a.png", 1), ("replace", "y2020/a.png", 0)]
    )
    def test_the_user_chooses(self, run: Run, tmp_path: Path, policy: str, kept: str, skipped: int) -> None:
        folder(tmp_path, y2019__a=0, y2020__a=1, y2020__b=2)
        url = STORES["faiss"]
        run("index", "y2019", "--store", url)
        again = run("index", "y2020", "--store", url, "--on-conflict", policy, "--json")
        assert again.code == 0
        assert again.json["conflicts_skipped"] == skipped
        assert paths(url) == {"a.png": kept, "b.png": "y2020/b.png"}

    def test_a_prefix_keeps_both(self, run: Run, tmp_path: Path, url: str) -> None:
        folder(tmp_path, y2019__a=0, y2020__a=1)
        assert run("index", "y2019", "--store", url, "--prefix", "2019/").code == 0
        assert run("index", "y2020", "--store", url, "--prefix", "2020/").code == 0
        assert paths(url) == {"2019/a.png": "y2019/a.png", "2020/a.png": "y2020/a.png"}
        assert run("index", "y2020", "--store", url).code == 1, "the prefix of the first run is the default"

    def test_lines_of_texts(self, run: Run, tmp_path: Path) -> None:
        for name, text in (("one", "a red car\nthe sea\n"), ("two", "a red car\nthe moon\n")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "notes.txt").write_text(text)
        url = STORES["faiss"]
        run("index", "one", "--store", url)
        again = run("index", "two", "--store", url)
        assert again.code == 1
        assert "'notes.txt#2' stands for" in again.err

    def test_without_digests_the_sizes_are_compared(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path, y2019__a=0, y2020__a=1)
        url = STORES["faiss"]
        run("index", "y2019", "--store", url, "--fields", "path,bytes")
        assert run("index", "y2020", "--store", url, "--fields", "path,bytes").code == 1

    @pytest.mark.parametrize("fields", ["width", "sha256", "path"])
    def test_it_says_where_it_cannot_know(self, run: Run, tmp_path: Path, fields: str) -> None:
        folder(tmp_path, y2019__a=0, y2020__a=1)
        url = STORES["faiss"]
        run("index", "y2019", "--store", url, "--fields", fields)
        again = run("index", "y2020", "--store", url, "--fields", fields)
        assert again.code == 0
        assert "does not tell whether it was the same file" in again.err


class TestTheSameFile:
    """What is no conflict."""

    def test_a_second_run(self, run: Run, tmp_path: Path, url: str) -> None:
        folder(tmp_path / "a", x=0, deep__y=1)
        for _ in range(2):
            assert run("index", "a", "--store", url).code == 0
        assert len(paths(url)) == 2

    def test_an_edited_file(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path / "a", x=0)
        run("index", "a", "--store", STORES["faiss"])
        folder(tmp_path / "a", x=1)
        assert run("index", "a", "--store", STORES["faiss"]).code == 0

    def test_a_folder_that_was_moved(self, run: Run, tmp_path: Path, url: str) -> None:
        folder(tmp_path / "a", x=0, y=1)
        run("index", "a", "--store", url)
        (tmp_path / "a").rename(tmp_path / "b")
        assert run("index", "b", "--store", url).code == 0
        assert paths(url) == {"x.png": "b/x.png", "y.png": "b/y.png"}

    def test_a_link_to_it(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path / "a", x=0)
        run("index", "a", "--store", STORES["faiss"])
        (tmp_path / "b").symlink_to(tmp_path / "a")
        assert run("index", "b", "--store", STORES["faiss"]).code == 0


class TestTwoIdsForOneFile:
    """The folder above, or one below, is indexed after a folder."""

    @pytest.mark.parametrize(("first", "then"), [("all/y2019", "all"), ("all", "all/y2019")])
    def test_it_stops_and_names_the_way_out(self, run: Run, tmp_path: Path, first: str, then: str) -> None:
        folder(tmp_path / "all", y2019__a=0, y2019__b=1)
        url = STORES["faiss"]
        run("index", first, "--store", url)
        before = paths(url)
        again = run("index", then, "--store", url)
        assert again.code == 1
        assert "stands in the collection as" in again.err
        assert paths(url) == before
        if then != "all":
            assert "--prefix y2019/" in again.err
            assert run("index", then, "--store", url, "--prefix", "y2019/").code == 0
            assert paths(url) == before

    def test_skip_leaves_all_of_them_and_takes_the_new(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path / "all", **{f"y2019__{name}": 0 for name in "abcdefg"})
        url = STORES["faiss"]
        run("index", "all/y2019", "--store", url)
        folder(tmp_path / "all", y2020__new=1)
        again = run("index", "all", "--store", url, "--on-conflict", "skip", "--json")
        assert again.json["conflicts_skipped"] == 7
        assert sorted(paths(url)) == [*(f"{name}.png" for name in "abcdefg"), "y2020/new.png"]


class TestKinds:
    """``--id``."""

    def test_content_twins_are_duplicates(self, run: Run, tmp_path: Path, url: str) -> None:
        folder(tmp_path / "a", x=0, twin=0, y=1)
        ran = run("index", "a", "--store", url, "--id", "content", "--json")
        assert ran.code == 0
        digests = {hashlib.sha256(PICTURES[number].read_bytes()).hexdigest()[:32] for number in (0, 1)}
        assert set(paths(url)) == digests
        assert ran.json["duplicates"] == 1

    def test_content_is_found_again_wherever_it_lies(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path, all__y2019__a=0)
        url = STORES["faiss"]
        run("index", "all/y2019", "--store", url, "--id", "content")
        assert run("index", "all", "--store", url).code == 0
        assert len(paths(url)) == 1

    def test_absolute(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path, all__y2019__a=0)
        url = STORES["faiss"]
        for given in ("all/y2019", "all"):
            assert run("index", given, "--store", url, "--id", "absolute").code == 0
        assert list(paths(url)) == [f"{tmp_path}/all/y2019/a.png"]

    @pytest.mark.parametrize("kind", ["relative", "absolute"])
    def test_another_kind_than_the_collections_is_bad_usage(
        self, run: Run, tmp_path: Path, url: str, kind: str
    ) -> None:
        folder(tmp_path / "a", x=0)
        run("index", "a", "--store", url, "--id", "content")
        before = paths(url)
        again = run("index", "a", "--store", url, "--id", kind)
        assert again.code == 2
        assert "are content" in again.err
        assert paths(url) == before

    @pytest.mark.parametrize(
        "options", [("--id", "sha1"), ("--id", "content", "--prefix", "x/"), ("--on-conflict", "ask")]
    )
    def test_what_there_is_not(self, run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
        folder(tmp_path / "a", x=0)
        assert run("index", "a", "--store", STORES["faiss"], *options).code == 2
        assert not (tmp_path / "store").exists()

    def test_a_journal_of_other_ids_is_another_run(self, run: Run, tmp_path: Path) -> None:
        folder(tmp_path / "a", x=0)
        url = STORES["faiss"]
        run("index", "a", "--store", url, "--journal", "j", "--prefix", "1/")
        other = run(
            "index", "a", "--store", url, "--journal", "j", "--prefix", "2/", "--on-conflict", "replace"
        )
        assert other.code == 1
        assert "belongs to another run" in other.err


def test_a_collection_of_before_is_relative_and_gets_no_digest(run: Run, tmp_path: Path) -> None:
    folder(tmp_path / "a", x=0)
    url = STORES["faiss"]
    run("index", "a", "--store", url, "--fields", "path,bytes,width")
    with vb.connect("faiss:store") as store:
        spec = store.open("photos").spec
    assert spec.ids == vb.SourceIds()
    old = vb.CollectionSpec.from_dict(
        {k: v for k, v in spec.to_dict().items() if k != "ids"} | {"name": "old"}
    )
    assert old.ids is None
    assert "ids" not in old.to_dict()
    with vb.connect("faiss:store") as store:
        store.create(old).close()
    assert run("index", "a", "--store", "faiss:store#old", "--fields", "path,bytes,width").code == 0
    assert run("index", "a", "--store", "faiss:store#old", "--id", "content").code == 2
