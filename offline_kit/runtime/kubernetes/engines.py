"""Each model as a Deployment of engines behind a Service.

Rules: the command is that of Compose, word by word; a pod has its GPUs for itself, for Kubernetes gives a GPU to one pod:
engines that share one are refused; replicas are pods of one Deployment; an engine has the time to load that its weights take,
and no way out. Pure, standard library only.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Mapping, Tuple

from .. import serve
from ..settings.model import MODELS_JSON, ConfigError, Mistake, Model, Settings
from ..settings.placement import world_size
from . import pods, weights
from .site import Carried, Target

GPU = "nvidia.com/gpu"
_PERIOD = 10  # seconds between two questions while an engine starts
_READ = 50_000_000  # bytes a second that the slowest storage still gives
_BEFORE = {"cpu": 600, "nvidia": 1800}  # seconds for imports, compilation and graphs
_HEALTH = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
_PORT = {"tcpSocket": {"port": "http"}, "timeoutSeconds": 5}
_MARGIN = 2 << 30  # bytes beside the weights


def check_shared(gpus: Mapping[str, Tuple[str, ...]]) -> None:
    """``gpus``: of each engine, as the plan places them. Raises ConfigError where two engines share one."""
    on: Dict[str, List[str]] = {}
    for key, places in gpus.items():
        for gpu in places:
            on.setdefault(gpu, []).append(key)
    mistakes = [
        Mistake(
            MODELS_JSON,
            "gpus",
            f"{' and '.join(keys)} share GPU {gpu}, and Kubernetes gives a GPU to one pod",
            "give each engine GPUs of its own by 'gpus', and raise gpu_memory_utilization",
        )
        for gpu, keys in on.items()
        if len(keys) > 1
    ]
    if mistakes:
        raise ConfigError(mistakes)


def check_code(settings: Settings) -> None:
    """Raises ConfigError for models whose code is another repository: its links are made by what Compose runs alone."""
    remedy = "put that code into the model's own folder ('add' of the model in the manifest), or serve this model by Compose"
    mistakes = [
        Mistake(MODELS_JSON, f"models.{model.key}", "takes code from another repository, which has no way here yet", remedy)
        for model in settings.models
        if model.code
    ]
    if mistakes:
        raise ConfigError(mistakes)


def start_seconds(size: int, device: str) -> int:
    """Seconds that an engine may take to answer first: those before and after loading, and ``size`` bytes of weights."""
    return _BEFORE[device] + math.ceil(size / _READ)


def objects(
    target: Target, settings: Settings, model: Model, arguments: List[str], code: Tuple[str, List[Dict[str, str]]]
) -> List[Dict[str, Any]]:
    """The objects of one model. ``arguments``: its command; ``code``: name and items of the ConfigMap with the runtime."""
    nvidia = settings.device == "nvidia"
    carried = target.kit.models[model.folder.split("/")[0]]
    seconds = start_seconds(carried.size, settings.device)
    named = weights.folders(target, arguments)
    weight_volumes, weight_mounts = weights.volumes(target, named)
    environment = {"PYTHONPATH": pods.CODE, "OFFLINE_KIT_DEVICE": settings.device}
    environment.update(sorted({**settings.environment, **model.environment}.items()))
    engine = pods.container(
        "engine",
        target.image("engine"),
        command=["python3", "-m", "runtime.serve", model.key, "--command"],
        args=[pods.literal(word) for word in arguments],
        workingDir="/",
        env=pods.variables(environment),
        ports=[{"name": "http", "containerPort": serve.PORT, "protocol": "TCP"}],
        resources=_resources(settings, model, carried),
        startupProbe={**_HEALTH, "periodSeconds": _PERIOD, "failureThreshold": math.ceil(seconds / _PERIOD)},
        # On a CPU the process that computes is the one that answers: while it does, only its port says that it lives.
        readinessProbe={**(_HEALTH if nvidia else _PORT), "periodSeconds": 5, "failureThreshold": 6},
        livenessProbe={**(_HEALTH if nvidia else _PORT), "periodSeconds": 15, "failureThreshold": 20},
        volumeMounts=[
            *weight_mounts,
            pods.mount("code", f"{pods.CODE}/runtime"),
            pods.mount("cache", serve.CACHE, read_only=False),
            pods.mount("tmp", "/tmp", read_only=False),
            pods.mount("shm", "/dev/shm", read_only=False),
        ],
    )
    # The processes of one engine exchange tensors through shared memory; it is taken only as it is used.
    shared = pods.scratch("shm", memory=True, limit="16Gi" if world_size(model, settings) > 1 else "1Gi")
    volumes = [*weight_volumes, pods.code_volume(*code), pods.scratch("cache"), pods.scratch("tmp"), shared]
    waiting = weights.waiting(target, named)
    pod = pods.template(
        target,
        model.service,
        [engine],
        volumes,
        terminationGracePeriodSeconds=30,
        **pods.no_names(),
        **({"initContainers": waiting} if waiting else {}),
        **({"tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]} if nvidia else {}),
        **({"runtimeClassName": target.site.runtime_class} if nvidia and target.site.runtime_class else {}),
    )
    pod["metadata"]["annotations"] = {"offline-kit/model": model.name, "offline-kit/type": model.type}
    selector = target.labels(model.service)
    # Without a spare GPU a new pod would wait for the old one for ever; on a CPU it comes first.
    step = {"maxSurge": 0, "maxUnavailable": 1} if nvidia else {"maxSurge": 1, "maxUnavailable": 0}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": target.metadata(model.service, model.service),
        "spec": {
            "replicas": model.replicas,
            "progressDeadlineSeconds": seconds + 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": step},
            "template": pod,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": target.metadata(model.service, model.service),
        "spec": {"selector": selector, "ports": [port("http", serve.PORT, "http")]},
    }
    return [service, deployment, *(disruption(target, model.service) if model.replicas > 1 else [])]


def disruption(target: Target, component: str) -> List[Dict[str, Any]]:
    """The budget of a component with several pods: one at a time may be taken away."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": target.labels(component)}}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": target.metadata(component, component),
            "spec": spec,
        }
    ]


def port(name: str, number: int, inside: Any) -> Dict[str, Any]:
    """A port of a Service; ``inside``: of the container."""
    return {"name": name, "port": number, "targetPort": inside, "protocol": "TCP"}


def arguments_of(settings: Settings, model: Model) -> List[str]:
    """The command of the engines of ``model``."""
    return serve.argv(settings, model.key)


def _resources(settings: Settings, model: Model, carried: Carried) -> Dict[str, Any]:
    """Requests are what scheduling needs to know; a limit of memory is the operator's ``memory_limit`` alone."""
    memory = carried.size + _MARGIN if settings.device == "cpu" else 4 << 30
    limit = memory_limit(model.memory_limit) if model.memory_limit else 0
    requests: Dict[str, str] = {"cpu": "1", "memory": f"{math.ceil((min(memory, limit) if limit else memory) / (1 << 20))}Mi"}
    limits: Dict[str, str] = {"memory": f"{limit >> 20}Mi"} if limit else {}
    if settings.device == "nvidia":
        limits[GPU] = requests[GPU] = str(world_size(model, settings))
    return {"requests": requests, **({"limits": limits} if limits else {})}


def memory_limit(text: str) -> int:
    """Bytes of a size as Docker writes it, whose letters are powers of 1024."""
    digits = text.rstrip("bBkKmMgGiI")
    unit = text[len(digits) :].lower()[:1]
    return int(float(digits) * 1024 ** {"": 0, "b": 0, "k": 1, "m": 2, "g": 3}[unit])


def models_json(settings: Settings) -> str:
    """What the router reads: the models with the keys that they have here."""
    entries = {
        model.key: {
            "name": model.name,
            "path": model.path,
            "type": model.type,
            "port": model.port,
            "gpu_memory_utilization": model.gpu_memory_utilization,
            "max_model_len": model.max_model_len,
            "tensor_parallel_size": model.tensor_parallel_size,
            "dtype": model.dtype,
            "engine_args": {"lora_modules": model.engine_args["lora-modules"]} if model.adapters else {},
        }
        for model in settings.models
    }
    return json.dumps({"models": entries}, indent=2) + "\n"
