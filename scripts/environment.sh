# Sourced by the other scripts: makes a virtual environment and installs ccverify into it.
#   environment EXTRAS    EXTRAS: what to install besides the core, such as "[test]"
# VENV names the environment's folder (default: .venv in the checkout).
# After it, $PYTHON is the environment's interpreter.

environment() {
    base=${BASE_PYTHON:-python3}
    if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "ccverify needs Python 3.11 or newer; '$base' is not one." >&2
        echo "Install it, or name one: BASE_PYTHON=/path/to/python3 $0" >&2
        exit 1
    fi
    VENV=${VENV:-.venv}
    if [ ! -x "$VENV/bin/python" ]; then
        "$base" -m venv "$VENV" || {
            echo "Could not make a virtual environment; on Debian: apt install python3-venv" >&2
            exit 1
        }
    fi
    PYTHON="$VENV/bin/python"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -e ".$1"
}
