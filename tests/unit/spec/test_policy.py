"""What a policy forbids: each rule alone, all breaches in one run, and what is not known never passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from offline_kit.cli.main import cli
from offline_kit.common.digest import Digest
from offline_kit.common.errors import PolicyRefused, SpecError
from offline_kit.spec.lock import Blob, Lock, LockedFile, LockedImage, LockedModel
from offline_kit.spec.lock_facts import ModelCard, ModelNeeds
from offline_kit.spec.policy import parse_policy
from offline_kit.spec.policy_check import breaches, check_rehearsal
from offline_kit.spec.rehearsal import Extent
from tests.support.bundle_sample import VERSION, make_sample

ZERO = Digest("0" * 64)


def lock(files: tuple[str, ...] = ("model.safetensors", "config.json"), **more: Any) -> Lock:
    blob = Blob(digest=ZERO, size=1000, media_type="x")
    images = {
        "engine": LockedImage(
            spec_digest=ZERO,
            source="docker://ghcr.io/team/vllm:v1",
            reference="ghcr.io/team/vllm:v1",
            manifest=blob,
            config=blob,
            layers=(),
            created="2026-03-01T10:00:00Z",
        )
    }
    fields: dict[str, Any] = {"source": "hf://o/m", "endpoint": "https://huggingface.co", "commit": "c" * 40, **more}
    listed = tuple(LockedFile(path=path, size=500, sha256=ZERO) for path in files)
    models = {"chat": LockedModel(spec_digest=ZERO, files=listed, **fields)}
    return Lock(name="t", platform="linux/amd64", accelerator="cpu", images=images, models=models, config={})


def told(text: str, held: Lock | None = None) -> list[str]:
    return breaches(held or lock(), parse_policy(text, "policy.yaml"))


MIT: dict[str, Any] = {"card": ModelCard(licence="mit")}
CODE: dict[str, Any] = {"needs": ModelNeeds(code=("modeling_x.X",))}
RULES: dict[str, tuple[str, Lock, str]] = {
    "registry": (
        "registries: [docker.io]",
        lock(),
        "images.engine: comes from ghcr.io/team/vllm, and 'registries' allows",
    ),
    "path of a registry": ("registries: [ghcr.io/other/*]", lock(), "comes from ghcr.io/team/vllm"),
    "no registry": ("registries: []", lock(), "'registries' allows none"),
    "hub": ("hubs: [hub.example]", lock(), "models.chat: comes from huggingface.co, and 'hubs' allows hub.example"),
    "folder": ("hubs: [huggingface.co]", lock(source="dir:///x", endpoint=None, commit=None), "comes from dir"),
    "licence": ("licences: [apache-2.0]", lock(**MIT), "has the licence mit, and 'licences' allows apache-2.0"),
    "one licence of two": ("licences: [mit]", lock(card=ModelCard(licence="mit, gpl-3.0")), "has the licence mit, gpl-3.0"),
    "licence of its own": ("licences: [other]", lock(card=ModelCard(licence="other", licence_name="qwen")), "licence qwen"),
    "no licence": ("licences: [mit]", lock(card=ModelCard()), "its card names no licence"),
    "no card": ("licences: [mit]", lock(), "its card names no licence"),
    "pickles": ("pickles: false", lock(("a.safetensors", "sub/x.PT")), "sub/x.PT can run code when loaded"),
    "code": ("repository_code: false", lock(("a.safetensors", "modeling_x.py")), "brings code of its own (modeling_x.py)"),
    "code elsewhere": ("repository_code: false", lock(needs=ModelNeeds(code=("o/code--modeling_x.X",))), "(auto_map: o/code--"),
    "auto_map": ("repository_code: false", lock(**CODE), "(auto_map: modeling_x.X)"),
    "size": ("largest: 1.5KB", lock(), "has 2000 bytes, and 'largest' is 1500"),
    "age": ("oldest_image: '2026-03-02'", lock(), "was made on 2026-03-01, before 'oldest_image', 2026-03-02"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule(rule: str) -> None:
    text, held, what = RULES[rule]
    (one,) = told(text, held)
    assert what in one


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("registries: [ghcr.io]", {}),
        ("registries: [ghcr.io/team]", {}),
        ('registries: ["*.io/team/vllm"]', {}),
        ("hubs: [HuggingFace.co]", {}),
        ('hubs: ["*.example"]', {"endpoint": "https://hub.example:8443/x"}),
        ("hubs: [huggingface.co]", {"endpoint": None}),
        ("hubs: [dir]", {"source": "dir:///x", "endpoint": None, "commit": None}),
        ("licences: [MIT, apache-2.0]", MIT),
        ("pickles: false\nrepository_code: false\nlargest: 2KB\noldest_image: '2026-03-01'", {}),
        ("{}", {}),
    ],
)
def test_what_may_pass(text: str, more: dict[str, Any]) -> None:
    assert told(text, lock(**more)) == []


def test_all_breaches_at_once() -> None:
    assert len(told("registries: []\nhubs: []\nlicences: []\nlargest: 1\noldest_image: '2030-01-01'")) == 5


def test_an_image_that_does_not_say_when_it_was_made_does_not_pass() -> None:
    held = lock()
    bare = held.images["engine"].model_copy(update={"created": ""})
    assert "does not say when" in told("oldest_image: '2020-01-01'", held.model_copy(update={"images": {"engine": bare}}))[0]


@pytest.mark.parametrize("text", ["registry: [x]", "largest: huge", "oldest_image: soon", "pickles: maybe", "[]", "hubs: dir"])
def test_a_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"policy\.yaml"):
        parse_policy(text, "policy.yaml")


def said(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False, obj={})
    if result.exception:
        raise result.exception
    return result.output


def test_verify_holds_a_bundle_against_a_policy(tmp_path: Path) -> None:
    bundle = make_sample(tmp_path / "blobs").pack(tmp_path / f"kit-{VERSION}.tar.gz")
    policy = tmp_path / "policy.yaml"
    policy.write_text("largest: 1GiB\n")
    assert "whole" in said("verify", "-q", bundle, "--policy", policy)
    policy.write_text("hubs: [hub.example]\nregistries: []\n")
    with pytest.raises(PolicyRefused, match=r"policy\.yaml forbids") as caught:
        said("verify", "-q", bundle, "--policy", policy)
    assert caught.value.exit_code == 23 and str(caught.value).count("allows") >= 3


@pytest.mark.parametrize(
    ("demanded", "had", "good"),
    [
        ("configuration", None, False),
        ("configuration", "configuration", True),
        ("configuration", "start", True),
        ("start", "configuration", False),
        ("start", "start", True),
        (None, None, True),
    ],
)
def test_a_rehearsal_can_be_demanded(demanded: Extent | None, had: Extent | None, good: bool) -> None:
    policy = parse_policy(f"rehearsal: {demanded or 'null'}\n", "p.yaml")
    if good:
        check_rehearsal(had, policy, "p.yaml")
    else:
        with pytest.raises(PolicyRefused, match=r"'rehearsal' demands .* build it with --rehearse"):
            check_rehearsal(had, policy, "p.yaml")
