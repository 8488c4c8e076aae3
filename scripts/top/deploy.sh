#!/usr/bin/env bash
# The verbs of scripts/deploy.sh, from the top of the kit.
exec bash "$(dirname -- "$(readlink -f -- "$0")")/scripts/deploy.sh" "$@"
