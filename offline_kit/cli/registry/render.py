"""The command ``offline-kit render``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from offline_kit.cli.shared import options
from offline_kit.common.output import answer, say
from offline_kit.publish.cluster import KEYS_NAME, write_objects
from offline_kit.runtime.kubernetes.site import WEIGHTS, Site


@click.group()
def render() -> None:
    """Write what another way of serving needs, from a bundle or a kit."""


@render.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--registry", required=True, metavar="HOST[/PREFIX]", help="Where 'offline-kit push' brought this bundle.")
@click.option("--namespace", required=True, metavar="NS", help="The namespace, which is made.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder for the files."
)
@click.option("--weights", type=click.Choice(WEIGHTS), default="image", show_default=True, help="Where engines find weights.")
@click.option(
    "--host-path", default="", metavar="DIR", help="With hostpath: the folder on each node, one folder a model in it."
)
@click.option("--storage-class", default="", metavar="NAME", help="With pvc: of the claim. [default: the cluster's]")
@click.option(
    "--access-mode",
    type=click.Choice(["ReadWriteMany", "ReadWriteOnce"]),
    default="ReadWriteMany",
    show_default=True,
    help="With pvc: of the claim.",
)
@click.option("--pull-secret", default="", metavar="NAME", help="A Secret of the namespace with the registry's login.")
@click.option("--runtime-class", default="", metavar="NAME", help="RuntimeClass of engines with GPUs.")
@click.option(
    "--monitoring", default="", metavar="NS", help="Where Prometheus runs: adds PodMonitors, a dashboard, and its way in."
)
@click.option("--insecure", is_flag=True, help="With pvc: the registry speaks plain HTTP.")
@options.jobs
@options.quiet
def kubernetes(bundle: Path, output: Path, jobs: int, quiet: bool, **of_site: Any) -> None:
    """Write BUNDLE (or a kit's folder) as objects of Kubernetes, for 'kubectl apply -k'.

    Every image is named by digest in the site's registry. Weights come as image volumes (Kubernetes 1.33 and later), from a
    claim that a Job fills out of the registry, or from a folder of each node. Keys of clients are in OUTPUT/keys, which is made
    once and kept. Engines that share a GPU are refused.
    """
    site = Site(**{**of_site, "registry": of_site["registry"].strip("/"), "host_path": of_site["host_path"].rstrip("/")})
    for name in write_objects(bundle, site, output, jobs=jobs, progress=options.progress(quiet)):
        answer(str(output / name))
    if not quiet:
        say(f"next: kubectl apply -k {output}; keys of clients are in {output / KEYS_NAME}")
