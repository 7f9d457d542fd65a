#!/usr/bin/env bash
# A real OpenSearch server for the tests: one node, plain HTTP on 127.0.0.1, without the security plugin.
#   scripts/opensearch.sh fetch                          get it once, into .tools/
#   scripts/opensearch.sh run FOLDER PORT [-E key=value …] run it with its data in FOLDER; port 0 is a free one
# `run` becomes the server's own process: SIGTERM stops it, and its log is on standard output. Exit code 3: something that it needs is
# missing; the reason is on standard error. Environment: OPENSEARCH_VERSION, OPENSEARCH_HEAP, JAVA_HOME.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${OPENSEARCH_VERSION:-3.6.0}
home=$PWD/.tools/opensearch-$version
oldest_java=21

lacking() {
  echo "$*" >&2
  exit 3
}

major_of() { "$1" -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p'; }

find_java() {
  local candidate
  for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    if [ -x "$candidate" ] && [ "$(major_of "$candidate")" -ge "$oldest_java" ] 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  lacking "no Java $oldest_java or newer, which OpenSearch $version needs (looked at JAVA_HOME, PATH and /usr/lib/jvm)"
}

fetch() {
  [ ! -f "$home/.complete" ] || return 0
  command -v mvn >/dev/null || lacking "no Maven, which fetches OpenSearch: install it with your system's package manager (Debian, Ubuntu: apt install maven)"
  mkdir -p .tools
  (
    flock 9
    [ ! -f "$home/.complete" ] || exit 0
    rm -rf "$home" .tools/download
    mkdir .tools/download
    # Maven leaves marks in the folder that it is started in.
    cd .tools/download
    echo "Fetching OpenSearch $version into .tools (once)." >&2
    mvn -q -B -C -Dstyle.color=never -Dmaven.repo.local="$PWD/repository" \
      org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack \
      -Dartifact="org.opensearch.distribution.integ-test-zip:opensearch:$version:zip" -DoutputDirectory="${home%/*}" >&2
    rm -rf "${home%/*}/download"
    touch "$home/.complete"
  ) 9>.tools/opensearch.lock
}

java=$(find_java)
case ${1:-} in
  fetch) fetch; exit 0 ;;
  run) [ $# -ge 3 ] || { echo "usage: $0 run FOLDER PORT [-E key=value …]" >&2; exit 2; } ;;
  *) echo "usage: $0 fetch | run FOLDER PORT [-E key=value …]" >&2; exit 2 ;;
esac
fetch
folder=$2 port=$3
shift 3
mkdir -p "$folder/config" "$folder/data" "$folder/logs" "$folder/tmp"
folder=$(cd "$folder" && pwd)
cat > "$folder/config/opensearch.yml" <<YML
cluster.name: sluice-tests
node.name: sluice-tests
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: 0
path.data: $folder/data
path.logs: $folder/logs
node.store.allow_mmap: false
cluster.routing.allocation.disk.threshold_enabled: false
YML
cat > "$folder/config/log4j2.properties" <<'LOG'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
LOG
options=(-Xms"${OPENSEARCH_HEAP:-512m}" -Xmx"${OPENSEARCH_HEAP:-512m}" -Xss1m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
  -Djava.io.tmpdir="$folder/tmp" -Djava.awt.headless=true -Dfile.encoding=UTF-8
  -Djna.nosys=true -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true
  -Dlog4j.shutdownHookEnabled=false -Dlog4j2.disable.jmx=true
  -Dopensearch.path.home="$home" -Dopensearch.path.conf="$folder/config"
  -Dopensearch.distribution.type=zip -Dopensearch.bundled_jdk=false
  -javaagent:"$home/agent/opensearch-agent.jar" --enable-native-access=ALL-UNNAMED)
user=()
if [ "$(id -u)" = 0 ]; then # OpenSearch refuses to run as root.
  command -v setpriv >/dev/null || lacking "OpenSearch does not run as root, and there is no setpriv to run it as another user"
  user=(setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups)
  "${user[@]}" test -r "$home/.complete" || lacking "OpenSearch does not run as root, and user nobody cannot read $home"
  chown -R nobody "$folder"
fi
cd "$folder"
unset JAVA_TOOL_OPTIONS
exec ${user[@]+"${user[@]}"} "$java" "${options[@]}" -cp "$home/lib/*" org.opensearch.bootstrap.OpenSearch "$@" </dev/null
