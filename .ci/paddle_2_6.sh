#!/usr/bin/env bash
# The fast tests on paddlepaddle 2.6.2, the newest that PyPI has for GPUs. Needs Python 3.10 to 3.12 (no
# wheels of it beyond) and a package index. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

for python in "${PYTHON:-python3}" python3.11 python3.12 python3.10; do
    # a name can be there and yet not start (a version manager's stand-in)
    if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        break
    fi
    python=
done
[ -n "$python" ] || { echo "paddle_2_6.sh: no Python 3.10 to 3.12; set PYTHON"; exit 1; }

env=$(mktemp -d)
trap 'rm -rf "$env"' EXIT
"$python" -m venv "$env"
"$env/bin/pip" install -q -e '.[test]' 'paddlepaddle==2.6.2'
"$env/bin/python" -m pytest "$@"
