# Makes .venv, or keeps it when nothing changed; sourced by the scripts beside it, at the root of the checkout.
# shellcheck shell=sh

find_python() {
    for python in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            return 0
        fi
    done
    if command -v python3 >/dev/null 2>&1; then
        echo "BrokerFlow needs Python 3.11 or newer, and $(python3 --version 2>&1) is what python3 is: install a newer one, or name it in PYTHON." >&2
    else
        echo "BrokerFlow needs Python 3.11 or newer, and there is no python3: install it, or name it in PYTHON." >&2
    fi
    exit 2
}

find_python
"$python" -I scripts/venv.py || exit 2
