#!/usr/bin/env bash
# Prints the folder that has prometheus and promtool. Where there are none it unpacks the system's package (Debian, Ubuntu) into .tools, which
# installs and starts nothing; where that cannot be done it says how to get them, and ends with exit code 3.
set -euo pipefail
cd "$(dirname "$0")/.."
unpacked=$PWD/.tools/prometheus/usr/bin
find_it() {
  local candidate
  for candidate in "${PROMETHEUS_HOME:-}" "$(dirname "$(command -v prometheus || true)")" "$unpacked"; do
    if [ -x "$candidate/prometheus" ] && [ -x "$candidate/promtool" ]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}
find_it && exit
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  mkdir -p .tools
  (
    flock 9
    [ ! -x "$unpacked/promtool" ] || exit 0
    rm -rf .tools/prometheus .tools/prometheus-download
    mkdir .tools/prometheus-download
    cd .tools/prometheus-download
    # Lists of packages are brought up to date where there are none, which only root may.
    apt-get download prometheus || { apt-get update && apt-get download prometheus; }
    dpkg-deb --extract prometheus_*.deb ../prometheus
    rm -rf ../prometheus-download
  ) 9>.tools/prometheus.lock >&2 || true
  find_it && exit
fi
echo "Prometheus is missing: install it with your system's package manager (Debian, Ubuntu: apt install prometheus), or name the folder of prometheus and promtool in PROMETHEUS_HOME." >&2
exit 3
