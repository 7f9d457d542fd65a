#!/usr/bin/env bash
# Prints the path of a Chromium. Where there is none and root may install it (Debian, Ubuntu), it does; else it says how, and fails.
set -euo pipefail
find_it() { command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome; }
find_it && exit
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >&2
  find_it && exit
fi
echo "Chromium is missing: install it with your system's package manager (Debian, Ubuntu: apt install chromium), or name one in CHROMIUM." >&2
exit 1
