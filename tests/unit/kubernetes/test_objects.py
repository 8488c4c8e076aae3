"""Objects of Kubernetes: strictly valid for every version, arguments as in Compose, nothing named but the site's registry."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from offline_kit.runtime import serve
from offline_kit.runtime.kubernetes import engines, names, render
from offline_kit.runtime.settings.model import ConfigError
from offline_kit.runtime.settings.replicas import engines as engines_of_settings
from tests.unit.kubernetes.sites import CASES, CHAT, HOSTPATH, REGISTRY, SECOND, Case
from tests.unit.runtime.test_config import entry

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
OWN = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1")
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def loaded(texts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    return {name: list(yaml.safe_load_all(text)) for name, text in texts.items()}


def pods(made: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Component -> specification of its pods."""
    return {
        item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]["template"]["spec"]
        for found in made.values()
        for item in found
        if item["kind"] in ("Deployment", "Job")
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *strings(item))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@EVERY
def test_what_is_read_back_is_what_was_rendered(case: Case) -> None:
    """Of the files, which people and kubectl read."""
    made, back = case.objects(), loaded(case.texts())
    assert json.loads(json.dumps(made)) == {name: found for name, found in back.items() if name != render.LIST}
    assert back[render.LIST][0]["resources"] == list(made)


def lists_of(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects as lists of their kinds: the reader of schemas reads megabytes for each thing that it validates."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for item in objects:
        found.setdefault((item["apiVersion"], item["kind"]), {})[json.dumps(item)] = item
    return [
        {"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": [json.loads(text) for text in items]}
        for (version, kind), items in found.items()
    ]


@pytest.fixture(scope="module")
def every_object() -> list[dict[str, Any]]:
    """Those of all cases; PodMonitor alone is no object of Kubernetes."""
    return [item for case in CASES.values() for made in case.objects().values() for item in made if item["apiVersion"] in OWN]


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_strictly_valid(every_object: list[dict[str, Any]], version: str) -> None:
    """Image volumes have a field from 1.31 on, and a folder of one can be mounted from 1.33 on."""
    left_out = [item for item in every_object if version == "1.30" and "'image': {'reference'" in str(item)]
    lists = lists_of([item for item in every_object if item not in left_out])
    assert len(lists) == 9 and len(left_out) < len(every_object) / 8
    for listed in lists:
        kubernetes_validate.validate(listed, version, strict=True)


def test_the_schemas_find_what_is_wrong(every_object: list[dict[str, Any]]) -> None:
    """One misspelt field, deep in one of them, in a list as alone."""
    deployments = [item for item in json.loads(json.dumps(every_object)) if item["kind"] == "Deployment"]
    probe = deployments[-1]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    probe["failureTreshold"] = 1
    for wrong in (deployments[-1], lists_of(deployments)[0]):
        with pytest.raises(kubernetes_validate.ValidationError, match="failureTreshold"):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@EVERY
def test_arguments_are_those_of_compose(case: Case) -> None:
    """In Compose ``runtime.serve KEY`` makes them of the same files; here they stand in the object."""
    settings = case.settings()
    made = pods(case.objects())
    for model in settings.models:
        engine = made[f"engine-{names.dns_label(model.key)}"]["containers"][0]
        assert [word.replace("$$", "$") for word in engine["args"]] == serve.argv(settings, model.key)
        assert engine["command"][:3] == ["python3", "-m", "runtime.serve"] and engine["command"][-1] == "--command"
    assert len(engines_of_settings(settings)) == sum(
        item["spec"]["replicas"]
        for name, found in case.objects().items()
        for item in found
        if item["kind"] == "Deployment" and name.startswith("engine-")
    )


@EVERY
def test_nothing_is_named_but_the_registry_of_the_site(case: Case) -> None:
    """In every string of every file: no other host, no tag that moves, nothing pulled that is there."""
    allowed = {REGISTRY.partition("/")[0].partition(":")[0], "127.0.0.1"}
    groups = r"(?:[\w.-]*\.)?(?:kubernetes\.io|k8s\.io|coreos\.com|nvidia\.com)"
    for name, found in loaded(case.texts()).items():
        for text in strings(found):
            assert "latest" not in text.lower() and text != "Always", name
            for host in re.findall(r"https?://([^/:\s\"'$]+)", text) + re.findall(
                r"(?:^|[\s\"'=])((?:[a-z0-9-]+\.)+[a-z]{2,})(?::[0-9]+)?/", text
            ):
                assert host in allowed or re.fullmatch(groups, host), (name, host)
    for pod in pods(case.objects()).values():
        for container in containers(pod):
            assert re.fullmatch(rf"{re.escape(REGISTRY)}/images/\w+@sha256:[0-9a-f]{{64}}", container["image"])
            assert container["imagePullPolicy"] == "IfNotPresent"
        for volume in (volume for volume in pod["volumes"] if "image" in volume):
            assert re.fullmatch(rf"{re.escape(REGISTRY)}/models/\w+@sha256:[0-9a-f]{{64}}", volume["image"]["reference"])


@EVERY
def test_pods_are_as_pod_security_wants_them(case: Case) -> None:
    made = case.objects()
    labels = made["namespace.yaml"][0]["metadata"]["labels"]
    node = case.site.get("weights") == "hostpath"
    assert labels["pod-security.kubernetes.io/enforce"] == ("privileged" if node else "restricted")
    known = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim", "image", *(["hostPath"] if node else [])}
    for component, pod in pods(made).items():
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
        assert {key for volume in pod["volumes"] for key in volume if key != "name"} <= known
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            given = {mount["name"] for mount in container["volumeMounts"]}
            assert given <= {volume["name"] for volume in pod["volumes"]}, component


@EVERY
def test_names_are_those_of_kubernetes(case: Case) -> None:
    found = [item for found in case.objects().values() for item in found]
    for item in found:
        assert names.is_dns_label(item["metadata"]["name"]), item["metadata"]["name"]
        for value in item["metadata"]["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)
    placed = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in found]
    assert len(set(placed)) == len(placed)
    maps = {item["metadata"]["name"] for item in found if item["kind"] == "ConfigMap"}
    for pod in pods(case.objects()).values():
        for volume in pod["volumes"]:
            named = [volume, *volume.get("projected", {}).get("sources", [])]
            assert {source["configMap"]["name"] for source in named if "configMap" in source} <= maps


def test_gpus_probes_and_shared_memory_follow_the_plan() -> None:
    engine = pods(CASES["tensor parallel"].objects())["engine-chat"]
    container = engine["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert engine["runtimeClassName"] == "nvidia" and engine["dnsConfig"] == {"nameservers": ["127.0.0.1"]}
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}} in engine["volumes"]
    probe = container["startupProbe"]
    # 60 GiB at 50 MB/s, and half an hour
    assert (
        probe["failureThreshold"] * probe["periodSeconds"] == 3090 == 10 * -(-engines.start_seconds(60 << 30, "nvidia") // 10)
    )
    assert engines.start_seconds(60 << 30, "cpu") == 600 + 1289
    cpu = pods(CASES["CPU, a claim, replicas, memory"].objects())["engine-chat"]["containers"][0]
    assert cpu["resources"]["limits"] == {"memory": "24576Mi"} and "nvidia.com/gpu" not in str(cpu)


@pytest.mark.parametrize("second", [entry(path="/models/embedding", type="embedding", port=8002, name="e"), CHAT | SECOND])
def test_engines_that_share_a_gpu_are_refused(second: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Case({"chat": CHAT, "other": second | {"gpus": ["0"], "gpu_memory_utilization": 0.4}}).objects()
    what = "chat and other share GPU 0, and Kubernetes gives a GPU to one pod"
    remedy = "give each engine GPUs of its own by 'gpus', and raise gpu_memory_utilization"
    assert str(caught.value) == f"config/models.json: gpus: {what} -> {remedy}"


def test_code_of_another_repository_is_refused() -> None:
    """What a pod runs makes no links to it: the engine would ask a hub for it, and die."""
    settings = Case({"chat": CHAT}).settings()
    asking = dataclasses.replace(settings, models=tuple(dataclasses.replace(m, code={"a/b": "c"}) for m in settings.models))
    with pytest.raises(
        ConfigError, match=r"models\.chat: takes code from another repository, which has no way here yet -> put"
    ):
        render.objects(CASES["one model, image volumes"].target(), asking, {})


def test_keys_that_become_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"models\.a_: becomes 'a' in Kubernetes, as 'a' does -> rename one of the two"):
        Case({"a": CHAT, "a_": SECOND}).objects()


def test_an_engine_sees_the_models_that_it_names_alone() -> None:
    pod = pods(CASES["arguments and variables that need care"].objects())["engine-chat"]
    assert [m for m in pod["containers"][0]["volumeMounts"] if m["name"].startswith("model-")] == [
        {"name": "model-adapters", "mountPath": "/models/adapters", "subPath": "models", "readOnly": True},
        {"name": "model-chat", "mountPath": "/models/chat", "subPath": "models", "readOnly": True},
    ]
    other = pods(CASES["three types, image volumes"].objects())["engine-rerank"]
    assert [volume["name"] for volume in other["volumes"] if "image" in volume] == ["model-rerank"]


def test_a_folder_of_the_node_is_mounted_read_only() -> None:
    pod = pods(CASES["one model, a folder of the node"].objects())["engine-chat"]
    path = f"{HOSTPATH['host_path']}/chat"
    assert {"name": "model-chat", "hostPath": {"path": path, "type": "Directory"}} in pod["volumes"]
    assert {"name": "model-chat", "mountPath": "/models/chat", "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_policies_deny_what_is_not_named() -> None:
    made = {
        item["metadata"]["name"]: item["spec"] for item in CASES["three types, folders, monitoring"].objects()["network.yaml"]
    }
    assert made["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(made) == {"default-deny", "gateway", "engines"} and "egress" not in made["engines"]
    behind = made["engines"]["podSelector"]["matchExpressions"][0]["values"]
    assert behind == ["engine-chat", "engine-embedding", "engine-rerank"]
    assert made["engines"]["ingress"][1]["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }
    assert all(rule["to"] for rule in made["gateway"]["egress"])
    plain = {item["metadata"]["name"]: item["spec"] for item in CASES["one model, a claim"].objects()["network.yaml"]}
    assert plain["weights"]["egress"][0] == {"ports": [{"protocol": "TCP", "port": 5000}]}


def test_keys_are_in_the_secret_alone() -> None:
    texts = CASES["two of a type: a router"].texts()
    assert [name for name, text in texts.items() if "0123456789abcdef$" in text] == [render.KEYS_FILE]


def test_a_change_of_configuration_has_a_name_of_its_own() -> None:
    """So that an undo finds what it was; the same gives the same names, and the same text."""

    def maps(case: Case) -> set[str]:
        return {item["metadata"]["name"] for found in case.objects().values() for item in found if item["kind"] == "ConfigMap"}

    one, other = Case({"chat": CHAT}), Case({"chat": CHAT | {"max_model_len": 256}})
    assert maps(one) == maps(Case({"chat": CHAT})) != maps(other) and one.texts() == Case({"chat": CHAT}).texts()


def test_what_a_pod_gets_of_the_runtime_runs_alone(tmp_path: Path) -> None:
    """The ConfigMap laid out as its items say: the engine becomes its command, the router and the Job read their options."""
    made = CASES["two of a type: a router"].objects()
    volume = next(item for item in pods(made)["engine-chat"]["volumes"] if item["name"] == "code")["configMap"]
    data = made["runtime.yaml"][0]["data"]
    assert volume["name"] == made["runtime.yaml"][0]["metadata"]["name"]
    assert len(json.dumps(made["runtime.yaml"])) < 1 << 20  # what the cluster stores at most
    for item in volume["items"]:
        path = tmp_path / "code/runtime" / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data[item["key"]])
    model = tmp_path / "models"
    model.mkdir()
    (model / "config.json").write_text("{}")
    program = tmp_path / "vllm"
    program.write_text('#!/bin/sh\necho "HF_HUB_OFFLINE=$HF_HUB_OFFLINE $*"\n')
    program.chmod(0o755)

    def run(*words: str) -> str:
        around = {"PYTHONPATH": str(tmp_path / "code"), "PATH": "/usr/bin:/bin", "OFFLINE_KIT_DEVICE": "cpu"}
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, env=around, cwd="/", capture_output=True, text=True, check=True).stdout

    words = [str(program), "serve", str(model), "--host", "0.0.0.0", "--max-model-len=8"]
    told = run("runtime.serve", "chat", "--cache", str(tmp_path / "cache"), "--command", *words)
    assert told == f"HF_HUB_OFFLINE=1 {shlex.join(words[1:])}\n"
    assert "--config" in run("runtime.router", "--help") and "--wait" in run("runtime.fetch_models", "--help")
