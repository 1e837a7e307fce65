# Sourced by the other scripts: makes the project's own environment from the locked, hashed set, once.
#   use_environment runtime|dev      leaves $PYTHON pointing at the environment's interpreter
# The environment is rebuilt when the lock file or the interpreter changes. Two starts at once wait for each other.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

find_python() {
  local name
  for name in ${AIP_PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null 2>&1 &&
       "$name" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' 2>/dev/null; then
      command -v "$name"; return
    fi
  done
  echo "aip: needs Python 3.11, 3.12 or 3.13 on the PATH (or AIP_PYTHON=/path/to/python)" >&2
  return 1
}

use_environment() {
  local kind=$1 place lock stamp
  place=${AIP_VENV:-$root/.venv}
  lock=$root/configs/locks/$kind.txt
  PYTHON=$place/bin/python
  stamp=$place/.locked-$kind
  if [ -x "$PYTHON" ] && [ -f "$stamp" ] && cmp -s "$lock" "$stamp"; then return; fi
  mkdir -p "$place"
  (
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if [ -x "$PYTHON" ] && [ -f "$stamp" ] && cmp -s "$lock" "$stamp"; then exit 0; fi
    # The lock file says "ours" from the first attempt on, so that one that was interrupted can be taken up again.
    if [ -n "$(ls -A "$place")" ] && [ ! -s "$place.lock" ] && ! ls "$place"/.locked-* >/dev/null 2>&1; then
      echo "aip: $place exists and was not made by this script: move it away, or set AIP_VENV=/another/place" >&2; exit 1
    fi
    base=$(find_python) || exit 1
    echo ours >"$place.lock"
    echo "aip: making the environment in ${place#"$PWD"/} (once; about a minute)" >&2
    if ! "$base" -m venv --clear "$place"; then
      echo "aip: this Python has no working 'venv' module (on Debian: apt install python3-venv)" >&2; exit 1
    fi
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r "$lock" || {
      echo "aip: the locked packages could not be installed (see above); nothing was changed outside $place" >&2; exit 1; }
    site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$root" >"$site/aip-checkout.pth"
    cp "$root/configs/locks/runtime.txt" "$place/.locked-runtime"
    cp "$lock" "$stamp"
  ) 9>>"$place.lock" || exit 7
}
