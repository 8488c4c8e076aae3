"""The command blocks of the well-known guide to vLLM behind three ports, as they stand there, and what is typed in a kit.

Rules: every command of the guide is here, block by block; ``TYPED`` has what is run in a kit where that is not the same text:
ports and key are this kit's, and vllm-unified is its service; ``ELSEWHERE`` names what cannot work as written, and what the kit
has instead; docs/guide-commands.md tells the same, which a test holds it to.
"""

from __future__ import annotations

BLOCKS: dict[str, tuple[str, ...]] = {
    "the host": (
        "docker --version",
        "docker-compose --version",
        "docker run --rm --gpus all nvidia/cuda:12.1-base-ubuntu22.04 nvidia-smi",
    ),
    "settings": ("cp .env.example .env", "vim .env"),
    "build": ("./build.sh", "./build.sh --tag v1.0.0 --skip-models", "./build.sh --help"),
    "build by hand": (
        "docker build --build-arg DOWNLOAD_MODELS=true -t knowflow/vllm-unified:latest .",
        "docker build --build-arg DOWNLOAD_MODELS=false -t knowflow/vllm-unified:latest .",
    ),
    "start": ("./deploy.sh start", "./deploy.sh status", "./deploy.sh logs", "./deploy.sh stop"),
    "start by Compose": ("docker-compose up -d", "docker-compose logs -f vllm-unified", "docker-compose down"),
    "ask": (
        "curl http://localhost:8000/health",
        'curl -X POST http://localhost:8001/v1/chat/completions -H "Content-Type: application/json" '
        '-H "Authorization: Bearer token-abc123" -d \'{"model": "Qwen2.5-32B-Instruct", '
        '"messages": [{"role": "user", "content": "\u4f60\u597d"}]}\'',
        'curl -X POST http://localhost:8002/v1/embeddings -H "Content-Type: application/json" '
        '-H "Authorization: Bearer token-abc123" -d \'{"model": "bge-m3", "input": "\u6d4b\u8bd5\u6587\u672c"}\'',
    ),
    "models of one's own": (
        "docker run -d --name vllm-unified --gpus all -p 8000-8003:8000-8003 -v /path/to/your/models:/app/models "
        "zxwei/vllm-unified:latest",
    ),
    "monitoring": ("docker-compose --profile monitoring up -d",),
    "nginx": ("docker-compose --profile nginx up -d", "curl http://localhost/v1/chat/completions"),
    "offline bundle": ("./build_offline_package.sh", "./build_offline_package.sh --version v1.0.0 --output /tmp/offline"),
    "on the host": (
        "tar -xzf knowflow-offline-*.tar.gz",
        "cd knowflow-offline",
        "./scripts/load_images.sh",
        "./scripts/deploy.sh start",
    ),
    "a service does not start": ("docker logs vllm-unified",),
    "logs": (
        'docker-compose logs --since="1h" vllm-unified',
        "docker-compose logs vllm-unified | grep ERROR",
    ),
    "speed": ("nvidia-smi -pm 1", "nvidia-smi -ac 1215,1410"),
    "the APIs": (
        "POST http://localhost:8001/v1/chat/completions",
        "POST http://localhost:8002/v1/embeddings",
        "POST http://localhost:8003/v1/rerank",
    ),
    "another version": ("docker pull knowflow/vllm-unified:latest", "./deploy.sh restart"),
    "backup": (
        "docker run --rm -v vllm_models:/data -v $(pwd):/backup alpine tar czf /backup/models-backup.tar.gz -C /data .",
        "tar czf config-backup.tar.gz config/",
    ),
    "clean": ("docker image prune -f", "docker volume prune -f", "./deploy.sh clean --force"),
}
# what the guide's commands are in a kit, where they are other words; @ENGINE is the engine image
TYPED = {
    "docker-compose logs -f vllm-unified": "docker-compose logs -f engine-chat",
    'docker-compose logs --since="1h" vllm-unified': 'docker-compose logs --since="1h" engine-chat',
    "docker-compose logs vllm-unified | grep ERROR": "docker-compose logs engine-chat | grep ERROR",
    "docker logs vllm-unified": "docker logs guide-engine-chat-1",
    BLOCKS["backup"][0]: "docker run --rm --pull never -v $(pwd)/models:/data:ro -v $(pwd)/..:/backup --entrypoint tar @ENGINE "
    "cf /backup/models-backup.tar -C /data .",
}
# what cannot work as written on a host without a network, and what does that here
ELSEWHERE = {
    BLOCKS["the host"][2]: "scripts/preflight.sh",
    "vim .env": "./install.sh --env-file .env",
    "docker pull knowflow/vllm-unified:latest": "./deploy.sh upgrade ../NAME-NEW-VERSION",
    BLOCKS["models of one's own"][0]: "./deploy.sh start",
    "nvidia-smi -pm 1": "nvidia-smi -pm 1",
    "nvidia-smi -ac 1215,1410": "nvidia-smi -ac 1215,1410",
    "cd knowflow-offline": "cd NAME-VERSION",
    "./build.sh": "scripts/build.sh",
    "./build.sh --tag v1.0.0 --skip-models": "scripts/build.sh --tag v1.0.0 --skip-models",
    "./build.sh --help": "scripts/build.sh --help",
    BLOCKS["build by hand"][0]: "scripts/build.sh --build-arg DOWNLOAD_MODELS=true",
    BLOCKS["build by hand"][1]: "scripts/build.sh --build-arg DOWNLOAD_MODELS=false",
    "./build_offline_package.sh": "scripts/build_offline_package.sh",
    "./build_offline_package.sh --version v1.0.0 --output /tmp/offline": (
        "scripts/build_offline_package.sh --version v1.0.0 --output /tmp/offline"
    ),
}
MODELS_JSON = """\
{
  "models": {
    "chat": {
      "name": "Qwen2.5-32B-Instruct",
      "path": "/app/models/chat",
      "type": "chat",
      "port": 8001,
      "gpu_memory_utilization": 0.8,
      "max_model_len": 32768,
      "tensor_parallel_size": 2,
      "dtype": "auto"
    },
    "embedding": {
      "name": "bge-m3",
      "path": "/app/models/embedding",
      "type": "embedding",
      "port": 8002,
      "gpu_memory_utilization": 0.3,
      "max_model_len": 8192,
      "tensor_parallel_size": 1,
      "dtype": "auto"
    },
    "rerank": {
      "name": "bge-reranker-v2-m3",
      "path": "/app/models/rerank",
      "type": "rerank",
      "port": 8003,
      "gpu_memory_utilization": 0.2,
      "max_model_len": 8192,
      "tensor_parallel_size": 1,
      "dtype": "auto"
    }
  }
}
"""
DOTENV = """\
HF_TOKEN=your_huggingface_token
CUDA_VISIBLE_DEVICES=0,1
VLLM_ROUTER_PORT=8000
VLLM_CHAT_PORT=8001
VLLM_EMBEDDING_PORT=8002
VLLM_RERANK_PORT=8003
"""
