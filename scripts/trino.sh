#!/usr/bin/env bash
# A real Trino server for the tests, the engine behind Athena: one node with the Iceberg plugin, plain HTTP without login on 127.0.0.1.
#   scripts/trino.sh fetch     get it once, into .tools/
#   scripts/trino.sh run PORT  run it until standard input ends; catalogs are made by CREATE CATALOG and gone with it
# Its log is on standard output. It is up when GET /v1/info says `"starting":false`. Exit code 3: something that it needs is missing; the
# reason is on standard error. Environment: TRINO_HOME (a folder that `fetch` filled, in place of .tools/), TRINO_HEAP, TRINO_JAVA_HOME,
# JAVA_HOME.
set -euo pipefail
cd "$(dirname "$0")/.."
# The newest whose server archive is on Maven Central.
version=476
home=${TRINO_HOME:-$PWD/.tools/trino-$version}
oldest_java=24

lacking() {
  echo "$*" >&2
  exit 3
}

major_of() { "$1" -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p'; }

find_java() {
  local candidate
  for candidate in "${TRINO_JAVA_HOME:+$TRINO_JAVA_HOME/bin/java}" "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" \
    /usr/lib/jvm/*/bin/java; do
    if [ -x "$candidate" ] && [ "$(major_of "$candidate")" -ge "$oldest_java" ] 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  lacking "no Java $oldest_java or newer, which Trino $version needs: install one, and name its folder in JAVA_HOME where it is neither on the PATH nor in /usr/lib/jvm"
}

fetch() {
  [ ! -f "$home/.complete" ] || return 0
  command -v mvn >/dev/null || lacking "no Maven, which fetches Trino: install it with your system's package manager (Debian, Ubuntu: apt install maven)"
  mkdir -p "${home%/*}"
  (
    flock 9
    [ ! -f "$home/.complete" ] || exit 0
    rm -rf "$home" "$home-download"
    mkdir "$home-download"
    # Maven leaves marks in the folder that it is started in.
    cd "$home-download"
    echo "Fetching Trino $version into ${home%/*} (once, 555 MB)." >&2
    maven() {
      mvn -q -B -C -Dstyle.color=never -Dmaven.repo.local="$PWD/repository" \
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:$1" "${@:2}" >&2
    }
    # Of the server only lib: what else is in the archive are hard links, of which the plugin makes empty files.
    maven unpack -Dartifact="io.trino:trino-server-core:$version:tar.gz" -Dmdep.unpack.includes='*/lib/**' -DoutputDirectory="$PWD"
    # Without what catalogs need that no test has: 136 MB.
    maven unpack -Dartifact="io.trino:trino-iceberg:$version:zip" -Dmdep.unpack.excludes='**/net.snowflake_*,**/org.rocksdb_*' \
      -DoutputDirectory="$PWD"
    # For a catalog in a SQLite file.
    maven copy -Dartifact="org.xerial:sqlite-jdbc:3.50.3.0" -DoutputDirectory="$PWD/trino-iceberg-$version"
    mkdir -p "$home/plugin"
    mv "trino-server-core-$version/lib" "$home/lib"
    mv "trino-iceberg-$version" "$home/plugin/iceberg"
    rm -rf "$home-download"
    touch "$home/.complete"
  ) 9>"$home.lock"
}

java=$(find_java)
case ${1:-} in
  fetch) fetch; exit 0 ;;
  run) [ $# -eq 2 ] || { echo "usage: $0 run PORT" >&2; exit 2; } ;;
  *) echo "usage: $0 fetch | run PORT" >&2; exit 2 ;;
esac
fetch
port=$2
folder=$(mktemp -d)
server='' watcher=''
# Nothing that it has is worth an orderly end.
trap '[ -z "$server$watcher" ] || kill -KILL $server $watcher 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 143' TERM INT
cat > "$folder/config.properties" <<CONFIG
node.environment=test
node.id=sluice-tests
node.bind-ip=127.0.0.1
node.internal-address=127.0.0.1
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port=$port
discovery.uri=http://127.0.0.1:$port
plugin.dir=$home/plugin
catalog.management=dynamic
catalog.store=memory
CONFIG
echo "Bootstrap=WARN" > "$folder/log.properties"
options=(-Xmx"${TRINO_HEAP:-1g}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -XX:-OmitStackTraceInFastThrow
  -XX:+EnableDynamicAgentLoading -Djdk.attach.allowAttachSelf=true
  --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow
  -Dfile.encoding=UTF-8 -Djava.io.tmpdir="$folder" -Dconfig="$folder/config.properties"
  -Dlog.levels-file="$folder/log.properties" -Dlog.enable-console=true)
exec 3<&0
cd "$folder"
unset JAVA_TOOL_OPTIONS
"$java" "${options[@]}" -cp "$home/lib/*" io.trino.server.TrinoServer </dev/null 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -KILL "$server"; } &
watcher=$!
wait "$server"
