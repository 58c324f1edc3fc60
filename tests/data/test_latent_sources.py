"""Latents belong to the pictures that they were encoded from, wherever these are."""

import json
import os
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from acdit.data.autoencoders import load_autoencoder
from acdit.data.latents import open_latents
from acdit.training.plan import make_plan
from acdit.utils.errors import UserError
from tests.data.latent_files import contents, encoded, opened, recipe_of


def replace_keeping_size_and_time(path, seed):
    """Change a byte behind the pixels of a picture, as a copy that keeps times would."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-5] ^= 1 + seed
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def shuffle(root):
    """Exchange two pictures of a class; as many files of the same names stay."""
    (root / "ant" / "0.png").rename(root / "swap")
    (root / "ant" / "1.png").rename(root / "ant" / "0.png")
    (root / "swap").rename(root / "ant" / "1.png")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: (root / "bee" / "3.png").unlink(), "class bee had 6 files and has 5"),
        (lambda root: shutil.copy(root / "bee" / "3.png", root / "bee" / "9.png"), "had 6 files and has 7"),
        (lambda root: (root / "bee").rename(root / "cow"), "class cow is new, class bee is removed"),
        (lambda root: shutil.copytree(root / "bee", root / "aaa"), "class aaa is new, class ant was row 0"),
        (
            lambda root: (root / "bee" / "3.png").rename(root / "bee" / "x.png"),
            "class bee has 6 files as before, but they differ in name, size or order",
        ),
        (
            lambda root: (root / "bee" / "3.png").write_bytes((root / "bee" / "2.png").read_bytes() + b"!"),
            "bee",
        ),
        (shuffle, r"class ant has 5 files as before, but they differ|file ant/0\.png has another content"),
    ],
    ids=["deleted", "added", "renamed class", "new class", "renamed file", "replaced", "exchanged"],
)
def test_changed_pictures_are_refused_by_name(pictures, vae, change, named):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    before = contents(folder)
    change(pictures)
    with pytest.raises(UserError, match=f"holds latents of other data; differences: .*{named}") as caught:
        opened(recipe)
    assert "\n" not in str(caught.value) and "acdit encode" in str(caught.value)
    with pytest.raises(UserError, match=f"differences: .*{named}"):
        encoded(recipe, 8)
    assert contents(folder) == before


def test_the_content_of_modified_files_decides(pictures, vae):
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 8)
    for path in pictures.rglob("*.png"):
        os.utime(path)
    assert len(opened(recipe)) == 11 and opened(recipe).notes == ()
    path = pictures / "bee" / "4.png"
    replace_keeping_size_and_time(path, 0)
    os.utime(path)
    with pytest.raises(UserError, match=r"file bee/4\.png has another content"):
        opened(recipe)
    with pytest.raises(UserError, match=r"file bee/4\.png has another content"):
        encoded(recipe, 8)


def test_another_spelling_and_another_place_are_the_same_data(pictures, vae, tmp_path, monkeypatch):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    before = contents(folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(pictures)
    copied = shutil.copytree(pictures, tmp_path / "copy", copy_function=shutil.copy)  # with other times
    for source in ("pictures", "./pictures/", "link", str(copied)):
        other = recipe_of(pictures, vae, **{"data.source": source})
        assert opened(other).notes == () and len(opened(other)) == 11
        assert [check.ok for check in make_plan(other).checks if check.subject == "latents"] == [True]
    encoded(recipe_of(pictures, vae, **{"data.source": "link"}), 8)
    after = contents(folder)
    assert after.pop("manifest.json") != before.pop("manifest.json")  # names the data as they were given last
    assert after == before


def test_latents_train_where_the_pictures_are_absent(pictures, vae):
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 8)
    shutil.rmtree(pictures)
    (note,) = opened(recipe).notes
    assert str(pictures) in note and "not available here" in note
    pictures.mkdir()
    assert len(opened(recipe)) == 11
    with pytest.raises(UserError, match="the data set was local files and is digits"):
        opened(recipe_of(pictures, vae, **{"data.source": "digits", "data.image_size": 8, "data.flip": True}))


def test_linked_class_folders_are_compared_too(pictures, vae, tmp_path):
    for name in ("ant", "bee"):
        (pictures / name).rename(tmp_path / name)
        (pictures / name).symlink_to(tmp_path / name)
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 8)
    assert opened(recipe).notes == ()
    (tmp_path / "bee" / "3.png").unlink()
    with pytest.raises(UserError, match="class bee had 6 files and has 5"):
        opened(recipe)


def test_latents_of_a_built_in_set_are_of_that_set(vae, tmp_path):
    recipe = recipe_of(tmp_path / "x", vae, **{"data.source": "digits", "autoencoder.shard_size": 4096})
    folder = encoded(recipe, 256)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"]["source"] == manifest["recorded_name"] == "digits"
    data = opened(recipe)
    assert (data.source, data.recorded_name, data.notes) == ("digits", "digits", ())
    with pytest.raises(UserError, match="the data set was digits and is somewhere"):
        opened(recipe_of(tmp_path / "x", vae, **{"data.source": "somewhere"}))


def without_record(folder):
    """Make latents those of a version that did not record what they were encoded from."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["data"], manifest["recorded_name"], manifest["settings"]["data"]["listed"]
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["acdit"])
        del header["identity"], header["sources"]
        tensors = {
            name: tensor for name, tensor in load_file(path).items() if name not in ("content", "modified")
        }
        save_file(tensors, path, metadata={"acdit": json.dumps(header)})
        shard["bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_latents_of_earlier_versions_are_read_with_a_note(pictures, vae):
    recipe = recipe_of(pictures, vae)
    folder = encoded(recipe, 8)
    new = opened(recipe).identity
    without_record(folder)
    data = opened(recipe)
    assert len(data) == 11 and data.recorded_name is None
    assert data.notes == (
        f"{folder} does not record which files were encoded, so they are not compared with the data",
    )
    assert data.identity.digest == new.digest and data.identity.counts == new.counts
    with pytest.raises(UserError, match=r"differences: data\.source"):
        opened(recipe_of(pictures, vae, **{"data.source": f"{pictures}/"}))
    encoded(recipe, 8)  # completes nothing, and records nothing that was not checked
    assert json.loads((folder / "manifest.json").read_text())["data"] is None


def test_unreadable_pictures_count_too(pictures, vae):
    cut = pictures / "ant" / "1.png"
    cut.write_bytes(cut.read_bytes()[:60])  # its header is whole
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 2)
    assert len(opened(recipe)) == 10
    replace_keeping_size_and_time(cut, 0)
    os.utime(cut)
    with pytest.raises(UserError, match=r"file ant/1\.png has another content"):
        opened(recipe)


def test_keys_that_do_not_change_the_latents(pictures, vae):
    encoded(recipe_of(pictures, vae), 8)
    for changes in ({"data.max_unreadable": 5}, {"data.workers": 1}, {"data.num_classes": 2}):
        assert len(opened(recipe_of(pictures, vae, **changes))) == 11


def test_the_identity_of_latents_is_that_of_their_values(pictures, vae, tmp_path):
    recipe = recipe_of(pictures, vae)
    encoded(recipe, 8)
    first = opened(recipe).identity
    again = recipe_of(pictures, vae, **{"autoencoder.latents": str(tmp_path / "again")})
    for path in pictures.rglob("*.png"):
        os.utime(path)
    encoded(again, 8)
    assert opened(again).identity == first
    model = load_autoencoder(vae)
    assert open_latents(again.latents, again.data, again.autoencoder, model, seed=3).identity == first
