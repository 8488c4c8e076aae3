#!/usr/bin/env bash
# build.sh TARGET WORK: the programs of a Kubernetes node into TARGET/bin, its CNI plug-ins into TARGET/cni, the image of pods' own
# process into TARGET/pause.tar. WORK (some 2 GiB meanwhile) is an empty folder that the caller removes; APT_CONFIG names an apt
# configuration with bookworm and its sources.
#
# Debian has the source of Kubernetes 1.20 alone, and builds two of its programs. The others are built here, with Debian's Go:
#   - GOPATH mode: its vendor folder has no list of modules that Go would accept;
#   - one generated file is missing from the source, and made first;
#   - vendored reflect2 1.0.1 reads maps in a way that Go 1.18 and later end with a crash: Debian's 1.0.2 takes its place;
#   - without the clouds' and Docker's parts.
set -euo pipefail
target=$1 work=$2
sources=src/k8s.io/kubernetes
mkdir -p "$target/bin" "$target/cni" "$work/debs" "$work/root" "$work/lib" "$work/$sources"
cd "$work"
(cd debs && apt-get -qq download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server \
    containernetworking-plugins conntrack && apt-get -qq source --download-only kubernetes)
for package in debs/golang-1.19*.deb debs/etcd-server*.deb debs/containernetworking*.deb debs/conntrack*.deb; do
    dpkg-deb --extract "$package" root
done
dpkg-deb --extract debs/golang-github-modern-go-reflect2-dev*.deb lib
tar -xzf debs/kubernetes_*.orig.tar.gz -C "$sources" --strip-components=1

cd "$work/$sources"
rm -r vendor/github.com/modern-go/reflect2
cp -a "$work/lib/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
rm -f vendor/github.com/modern-go/reflect2/go.mod
# A pod that is deleted is gone a second later instead of ten.
sed -i 's/syncPeriod = 10 \* time.Second/syncPeriod = 1 * time.Second/' pkg/kubelet/status/status_manager.go

export GOROOT="$work/root/usr/lib/go-1.19" GOPATH="$work" GOCACHE="$work/cache" GO111MODULE=off GOPROXY=off GOTOOLCHAIN=local
export CGO_ENABLED=0 PATH="$work/root/usr/lib/go-1.19/bin:$PATH"
go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
folders=$(grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io pkg cmd plugin \
    | grep -vE '_test\.go|/testdata/|/(code-generator|sample-apiserver|sample-controller|sample-cli-plugin)/' \
    | xargs -n 1 dirname | LC_ALL=C sort -u | sed 's#^staging/src/#vendor/#; s#^#k8s.io/kubernetes/#' | paste -sd ,)
"$work/openapi-gen" --logtostderr -i "$folders" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h hack/boilerplate/boilerplate.generatego.txt -r "$work/openapi.report"
flags="-s -w"
for package in component-base/version client-go/pkg/version; do
    for value in gitMajor=1 gitMinor=20 gitVersion=v1.20.2 gitTreeState=clean; do
        flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package.$value"
    done
done
go build -tags "providerless dockerless" -ldflags "$flags" -o "$target/bin/" \
    ./cmd/kube-apiserver ./cmd/kube-controller-manager ./cmd/kube-scheduler ./cmd/kubelet ./cmd/kube-proxy

cp "$work/root/usr/bin/etcd" "$work/root/usr/sbin/conntrack" "$target/bin/"
for plugin in bridge host-local portmap loopback; do
    cp "$work/root/usr/lib/cni/$plugin" "$target/cni/"
done
mkdir "$work/pause"
gcc -Os -static -DVERSION=1 -o "$work/pause/pause" build/pause/linux/pause.c
strip "$work/pause/pause"
tar -C "$work/pause" -cf "$target/pause.tar" pause
