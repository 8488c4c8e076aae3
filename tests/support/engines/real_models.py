"""The demo with real weights, installed on a host of its own; and what transformers says of the same.

Rules: the kit is built from the shipped manifest; reference answers come from transformers and torch inside the kit's own
engine image, on the files that the engines serve.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.engines.lora_adapter import write_adapter
from tests.support.hosts import Installed
from tests.testbed.cache import REPOSITORY

CHAT, EMBEDDING, RERANK = "smollm2-135m-instruct", "all-minilm-l6-v2", "all-minilm-l6-v2-bi-encoder"
ADAPTER = "smollm2-other-words"
# A client on the host: path, key and body, to status and text.
CLIENT = """
import json, sys, urllib.error, urllib.request
path, key, body = json.load(sys.stdin)
data = None if body is None else json.dumps(body).encode()
headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
request = urllib.request.Request("http://127.0.0.1:8000" + path, data=data, headers=headers)
try:
    with urllib.request.urlopen(request, timeout=600) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
"""
REFERENCE = """
import json, sys, torch, transformers
asked = json.load(sys.stdin)
chat = transformers.AutoModelForCausalLM.from_pretrained("/models/chat", dtype=torch.float32)
names = transformers.AutoTokenizer.from_pretrained("/models/chat")
def write():
    replies = []
    for prompt in asked["prompts"]:
        given = names(prompt, return_tensors="pt")["input_ids"]
        made = chat.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=16, do_sample=False)
        replies.append(names.decode(made[0, given.shape[1]:]))
    return replies
replies = write()
from safetensors.torch import load_file
added, layers = load_file("/models/adapter/adapter_model.safetensors"), chat.model.layers
with torch.no_grad():  # alpha / r = 2
    for number, layer in enumerate(layers):
        name = f"base_model.model.model.layers.{number}.self_attn.q_proj.lora_"
        layer.self_attn.q_proj.weight += 2 * added[name + "B.weight"] @ added[name + "A.weight"]
adapted = write()
encoder = transformers.AutoModel.from_pretrained("/models/embedding", dtype=torch.float32).eval()
words = transformers.AutoTokenizer.from_pretrained("/models/embedding")(asked["texts"], padding=True, return_tensors="pt")
with torch.no_grad():
    states, mask = encoder(**words).last_hidden_state, words["attention_mask"].unsqueeze(-1).float()
mean = (states * mask).sum(1) / mask.sum(1)
print(json.dumps({"replies": replies, "adapted": adapted, "vectors": torch.nn.functional.normalize(mean).tolist()}))
"""


def write_project(folder: Path, registry: str, hub: str) -> Path:
    """The shipped manifest with these servers, and an adapter of the chat model; returns the manifest's path."""
    shutil.copytree(REPOSITORY / "config/demo-real", folder / "config/demo-real")
    services = folder / "config/demo-real/models.json"
    models = json.loads(services.read_text())
    # As the reference is computed: in bfloat16, two ways of adding up choose another word where two are alike.
    models["models"]["chat"]["dtype"] = "float32"
    arguments = {"enable_lora": True, "max_lora_rank": 8, "lora_modules": [{"name": ADAPTER, "path": "/models/adapter"}]}
    models["models"]["chat"]["engine_args"].update(arguments)
    services.write_text(json.dumps(models))
    (folder / "manifests").mkdir()
    text = (REPOSITORY / "manifests/demo-real.yaml").read_text()
    text = text.replace("127.0.0.1:5055", registry).replace("http://127.0.0.1:5056", hub)
    manifest = folder / "manifests/demo.yaml"
    adapter = f'  adapter: {{source: "dir://{write_adapter(folder / "adapter")}"}}'
    manifest.write_text(text.replace("models:\n", f"models:\n{adapter}\n", 1))
    return manifest


@dataclass(frozen=True)
class RealKit:
    """The kit, up and healthy."""

    installed: Installed

    def ask(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and answer of the gateway, to a client on the host: JSON, of a stream its text."""
        command = self.installed.host.argv(sys.executable, "-c", CLIENT)
        asked = json.dumps([path, self.installed.key, body])
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=660)
        status, text = json.loads(done.stdout)
        return status, text if text.startswith("data:") else json.loads(text)

    def reference(self, prompts: list[str], texts: list[str]) -> dict[str, Any]:
        """What transformers says: 16 tokens after each prompt, without and with the adapter, a unit vector of each text."""
        lock = json.loads((self.installed.kit / "bundle.json").read_text())
        models = f"{self.installed.kit}/models:/models:ro"
        command = ["run", "--rm", "--interactive", "--pull", "never", "--network", "none", "--volume", models]
        command += ["--entrypoint", "python3", lock["images"]["engine"]["tag"], "-c", REFERENCE]
        asked = json.dumps({"prompts": prompts, "texts": texts})
        docker = self.installed.host.argv("docker", *command)
        done = subprocess.run(
            docker, input=asked, env=self.installed.host.env, capture_output=True, text=True, check=True, timeout=600
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
