"""Builders that extend each other: signatures, defaults and refusals."""

import inspect

import pytest

import zoo
from zoo.config import choices, extends, look_up


@choices(shape={"round": ("radius",), "square": ("side",)})
def base(image_shape, *, shape="round", radius=1.0, side=2, color="red"):
    return {"shape": shape, "radius": radius, "side": side, "color": color}


@extends(base, color="blue")
def derived(image_shape, *, width=3, **options):
    return {"width": width} | base(image_shape, **options)


@extends(derived, without=("side",), width=4)
def third(image_shape, *, extra=0, **options):
    return {"extra": extra} | derived(image_shape, **options)


def test_a_builder_has_its_options_before_the_options_of_its_base():
    names = list(inspect.signature(third).parameters)
    assert names == ["image_shape", "extra", "width", "shape", "radius", "color"]
    kinds = {p.kind for n, p in inspect.signature(third).parameters.items() if n != "image_shape"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_changed_defaults_are_in_the_signature_and_reach_the_base():
    defaults = {n: p.default for n, p in inspect.signature(third).parameters.items()}
    assert defaults["color"] == "blue" and defaults["width"] == 4
    result = third((8, 8, 1))
    assert result["color"] == "blue" and result["width"] == 4
    assert third((8, 8, 1), color="green", width=9)["color"] == "green"


@pytest.mark.parametrize("option", ["colour", "side"])
def test_an_unknown_option_is_refused_with_the_list_of_options(option):
    with pytest.raises(TypeError, match=rf"`third` has no option '{option}'. It has: extra, width"):
        third((8, 8, 1), **{option: 1})


def test_a_default_of_an_unknown_option_is_refused_at_definition():
    with pytest.raises(TypeError, match="no option"):

        @extends(base, colour="blue")
        def wrong(image_shape, **options):
            return base(image_shape, **options)


def test_an_option_that_the_choice_does_not_use_is_refused():
    assert base((8, 8, 1), shape="square", side=5)["side"] == 5
    for build in (base, derived):
        with pytest.raises(ValueError, match=r"`side` is an option of shape 'square'.*side=5"):
            build((8, 8, 1), side=5)
    with pytest.raises(
        ValueError, match=r"Unknown shape 'rund'. Did you mean 'round'. Available: round, square"
    ):
        third((8, 8, 1), shape="rund")


def test_a_default_may_be_passed_as_a_list():
    assert zoo.models.vae((8, 8, 1), filters=[32, 64], hidden=[4]).latent_dim == 20


def test_choices_can_be_extended():
    @choices(shape={"round": ("radius",), "square": ("side",), "flat": ()})
    @extends(base)
    def more(image_shape, *, shape="flat", **options):
        return shape

    assert more((8, 8, 1)) == "flat"
    with pytest.raises(ValueError, match="`radius` is an option of shape 'round'"):
        more((8, 8, 1), radius=2.0)


def test_look_up_lists_the_known_names_and_suggests_the_nearest():
    assert look_up({"a": 1}, "a", "letter") == 1
    message = r"Unknown letter 'alpa'. Did you mean 'alpha'. Available: alpha, beta"
    with pytest.raises(ValueError, match=message):
        look_up({"alpha": 1, "beta": 2}, "alpa", "letter")
