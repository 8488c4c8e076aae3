#!/usr/bin/env bash
# node.sh PROGRAMS RUN CGROUP ADDRESS REGISTRY: process 1 of the node's namespaces: the whole control plane and one kubelet.
set -u
programs=$1 run=$2 cgroup=$3 address=$4 registry=$5
pki=$run/pki
export PATH="$programs/bin:/usr/sbin:/usr/bin:/sbin:/bin" GOMAXPROCS=2
hostname node1
for folder in /run /var/log /var/lib; do
    mount -t tmpfs -o mode=755 none "$folder"
done
# runc takes the hierarchy that it knows best, and of two it takes neither.
umount /sys/fs/cgroup/unified 2> /dev/null
mkdir -p "$run/kubelet" "$run/cni" /run/etcd
mount --bind "$run/kubelet" "$run/kubelet"
mount --make-rshared "$run/kubelet"
sysctl -qw net.ipv4.ip_forward=1

cat > "$run/containerd.toml" << TEXT
version = 2
root = "$run/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$programs/cni"
    conf_dir = "$run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."$registry"]
    endpoint = ["http://$registry"]
TEXT
cat > "$run/cni/pods.conflist" << TEXT
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-addresses"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
TEXT
cat > "$run/kubelet.yaml" << TEXT
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
enforceNodeAllocatable: [pods]
failSwapOn: false
resolvConf: $run/resolv.conf
volumePluginDir: /run/kubelet-plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
registryPullQPS: 0
TEXT
: > "$run/resolv.conf"
cat > "$run/proxy.yaml" << TEXT
kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
mode: iptables
hostnameOverride: node1
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $pki/proxy.conf}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
TEXT

log() { exec "$@" > "$run/log/$1" 2>&1; }
log etcd --data-dir /run/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --logger zap &
log containerd -c "$run/containerd.toml" &
log kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address="$address" --secure-port=6443 \
    --service-cluster-ip-range=10.96.0.0/16 --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" \
    --tls-private-key-file="$pki/apiserver.key" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/tokens.pub" \
    --service-account-signing-key-file="$pki/tokens.key" --kubelet-client-certificate="$pki/admin.crt" \
    --kubelet-client-key="$pki/admin.key" --kubelet-preferred-address-types=InternalIP --profiling=false &
(
    until ctr -a /run/containerd/containerd.sock version; do sleep 0.2; done
    ctr -a /run/containerd/containerd.sock -n k8s.io images import "$run/pause.img.tar"
) > "$run/log/images" 2>&1
until curl -sf --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "https://$address:6443/readyz" > /dev/null; do
    sleep 0.2
done
log kube-controller-manager --kubeconfig="$pki/controllers.conf" --service-account-private-key-file="$pki/tokens.key" \
    --root-ca-file="$pki/ca.crt" --use-service-account-credentials --leader-elect=false --port=0 \
    --authentication-kubeconfig="$pki/controllers.conf" --authorization-kubeconfig="$pki/controllers.conf" &
log kube-scheduler --kubeconfig="$pki/scheduler.conf" --authentication-kubeconfig="$pki/scheduler.conf" \
    --authorization-kubeconfig="$pki/scheduler.conf" --leader-elect=false --port=0 &
log kubelet --config="$run/kubelet.yaml" --kubeconfig="$pki/kubelet.conf" --hostname-override=node1 --node-ip="$address" \
    --root-dir="$run/kubelet" --cert-dir=/run/kubelet-pki --container-runtime=remote --runtime-cgroups="/$cgroup" \
    --container-runtime-endpoint=unix:///run/containerd/containerd.sock &
log kube-proxy --config="$run/proxy.yaml" &
while :; do
    wait -n || sleep 0.2
done
