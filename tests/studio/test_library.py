"""The runs on show, without a server around them."""

import asyncio
import threading

import pytest

import fromnoise as fn
from fromnoise.errors import InputError
from fromnoise.studio import library
from fromnoise.studio.library import Library


def test_while_one_run_is_read_others_are_answered(trained, trained_shapes, monkeypatch):
    shown = Library([trained, trained_shapes])
    slow, other = (row["id"] for row in shown.rows())
    begun, go_on, read = threading.Event(), threading.Event(), library._load

    def load(run, before):
        if run.id == slow:
            begun.set()
            assert go_on.wait(60)
        return read(run, before)

    monkeypatch.setattr(library, "_load", load)

    async def both():
        first = asyncio.create_task(shown.get(slow))
        again = asyncio.create_task(shown.get(slow))
        await asyncio.to_thread(begun.wait, 60)
        quick = await asyncio.wait_for(shown.get(other), 60)
        assert not first.done()
        go_on.set()
        return quick, await first, await again

    quick, first, again = asyncio.run(both())
    assert quick.data["id"] == other
    assert first.data["id"] == slow
    assert first is again  # read once


def test_autoencoders_are_not_on_show_and_models_in_their_latents_are(tmp_path):
    fn.train_autoencoder("digits", factor=2, steps=2, out=tmp_path / "ae")
    fn.train("digits", latent=tmp_path / "ae", steps=2, out=tmp_path / "run")
    shown = Library([], under=tmp_path)
    assert [row["name"] for row in shown.rows()] == ["run"]
    loaded = asyncio.run(shown.get(shown.rows()[0]["id"]))
    assert loaded.data["name"] == "run"
    with pytest.raises(InputError, match="is the run of an autoencoder"):
        Library([tmp_path / "ae"])
