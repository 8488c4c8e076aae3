# shellcheck shell=bash
# What .state/compose.yaml may say: every key of every service, and its value.
#
# Rules: (1) a row is MARK SERVICES KEY VALUE: + must be there, ? may be; SERVICES with commas, * for all; a KEY below others has
# slashes, [] after a list; VALUE is the text as the file has it, items with a blank between, those of an object as KEY=VALUE;
# (2) @name in a value is a fact of this kit, ~ begins an expression for the whole value, @ports stands for what .env publishes;
# (3) offline_kit/runtime/render/compose.py writes it: what it gains has to be named here, and is refused until then; (4) variables
# of engines are those of runtime/settings/environment.py, by the same two expressions.

[[ -z "${COMPOSE_TABLE_SH:-}" ]] || return 0
COMPOSE_TABLE_SH=yes

# shellcheck disable=SC2034 # compose_grammar.sh reads them
readonly ENGINE_VARIABLES='(NCCL|GLOO|UCX|VLLM|HF|TOKENIZERS|TIKTOKEN|SAFETENSORS|XGRAMMAR|FLASHINFER|TRITON|TORCH|TORCHDYNAMO|TORCHINDUCTOR|PYTORCH|CUDA|CUBLAS|CUDNN|OMP|KMP|MKL|MALLOC)_[A-Z0-9_]+' \
    ENGINE_VARIABLES_REFUSED='LD_.*|PYTHON.*|PATH|.*(PLUGIN|_SO_PATH|LIBRAR|TRUST_REMOTE|INSECURE|WEIGHTS_ONLY|AUTOLOAD|CACHE_MANAGER|LOGGING_CONFIG|DEV_MODE).*|.*_PROXY|.*_proxy|.*(OFFLINE|NO_DOWNLOAD|NO_USAGE|DO_NOT_TRACK|USAGE_S|MODELSCOPE|ENDPOINT|REPOSITOR).*|.*(_TOKEN|API_KEY|SECRET|PASSWORD)(_.*)?|.*_(PATH|DIR|DIRECTORY|HOME|ROOT|CACHE|WORKSPACE_BASE)|CUDA_VISIBLE_DEVICES|NVIDIA_.*|OFFLINE_KIT_.*|HOME|USER|LOGNAME'

# shellcheck disable=SC2034 # compose_grammar.sh reads it
COMPOSE_TABLE='
+ *         image                     "@image"
+ *         pull_policy               "never"
+ *         restart                   "unless-stopped"
+ *         ulimits/core              0
+ *         dns[]                     "127.0.0.1"
+ *         logging/driver            "json-file"
+ *         logging/options/max-size  "50m"
+ *         logging/options/max-file  "5"
+ *         labels/offline-kit.kit    "@kit"
+ *         labels/offline-kit.version "@version"

+ engine,router,gateway,nginx-exporter,prometheus,grafana,off user @user
+ node-exporter user "65534:65534"
+ engine,router,gateway,nginx-exporter,node-exporter,prometheus,grafana,off read_only       true
+ engine,router,gateway,nginx-exporter,node-exporter,prometheus,grafana,off cap_drop[]      "ALL"
+ engine,router,gateway,nginx-exporter,node-exporter,prometheus,grafana,off security_opt[]  "no-new-privileges:true"

+ engine                                             pids_limit  32768
+ router                                             pids_limit  1024
+ gateway,nginx-exporter,node-exporter,dcgm-exporter,off pids_limit  512
+ prometheus,grafana                                 pids_limit  4096
+ engine                                             mem_limit   ~"[1-9][0-9]*([.][0-9]+)?[bkmgBKMG]?[bB]?"
+ router,nginx-exporter,node-exporter,dcgm-exporter,off  mem_limit   "1g"
+ gateway,prometheus                                 mem_limit   "4g"
+ grafana                                            mem_limit   "2g"

+ engine entrypoint[]  ~"python3" "-m" "runtime[.]serve" "[a-z0-9][a-z0-9_-]*"
+ engine working_dir   "/"
+ engine environment/PYTHONPATH          "/opt/offline-kit"
+ engine environment/OFFLINE_KIT_DEVICE  "@device"
? engine environment/OFFLINE_KIT_TOOL_CALL_PARSER  ~"[A-Za-z0-9][A-Za-z0-9_.-]*"
? engine environment/OFFLINE_KIT_REASONING_PARSER  ~"[A-Za-z0-9][A-Za-z0-9_.-]*"
? engine environment/@variable          ~"[^"]*"
+ engine labels/offline-kit.arguments    ~"[0-9a-f]+"
+ engine labels/offline-kit.model        ~"[A-Za-z0-9][A-Za-z0-9._:/@+-]*"
+ engine volumes[]  type="bind" source="./models" target="/models" read_only=true
+ engine volumes[]  type="bind" source="./models" target="/app/models" read_only=true
+ engine volumes[]  type="bind" source="./runtime" target="/opt/offline-kit/runtime" read_only=true
+ engine volumes[]  type="bind" source="./config" target="/etc/offline-kit/config" read_only=true
+ engine volumes[]  type="bind" source="./.state/cache/@key" target="/var/lib/offline-kit/cache" read_only=false
+ engine tmpfs[]    "/tmp:exec,mode=1777"
+ engine networks[] ~"(model-[a-z0-9][a-z0-9_-]*|engines)"
+ engine healthcheck/start_period  ~"(600|3600)s"
+ engine stop_grace_period         "30s"
? engine depends_on/@engine/condition  "service_healthy"
? engine shm_size  "16gb"
? engine deploy/resources/reservations/devices[]  ~driver="nvidia" device_ids[[][]]="[A-Za-z0-9-]+"( "[A-Za-z0-9-]+")* capabilities[[][]]="gpu"

+ engine,router healthcheck/test[]    "CMD" "python3" "-I" "-S" "/opt/offline-kit/runtime/healthcheck.py"
+ engine,router healthcheck/interval  "5s"
+ engine,router healthcheck/timeout   "5s"
+ engine,router healthcheck/retries   3

+ router entrypoint[]  "python3" "-m" "runtime.router"
+ router working_dir   "/"
+ router environment/PYTHONPATH              "/opt/offline-kit"
+ router environment/NVIDIA_VISIBLE_DEVICES  "void"
+ router labels/offline-kit.arguments        ~"[0-9a-f]+"
+ router volumes[]  type="bind" source="./runtime" target="/opt/offline-kit/runtime" read_only=true
+ router volumes[]  type="bind" source="./config" target="/etc/offline-kit/config" read_only=true
+ router networks[] "internal"
+ router healthcheck/start_period  "60s"
+ router stop_grace_period         "1s"

+ gateway entrypoint[]  "nginx" "-e" "stderr" "-c" "/etc/offline-kit/nginx.conf" "-g" "daemon off;"
+ gateway volumes[]     type="bind" source="./.state/gateway" target="/etc/offline-kit" read_only=true
+ gateway volumes[]     type="bind" source="./deploy/page" target="/usr/share/offline-kit/page" read_only=true
+ gateway tmpfs[]       "/tmp:mode=1777,size=2g"
+ gateway networks[]    ~"internal"( "(model-[a-z0-9][a-z0-9_-]*|engines)")+ "edge"
+ gateway ports[]       @ports
+ gateway stop_signal        "SIGQUIT"
+ gateway stop_grace_period  "30s"

+ nginx-exporter command[]   "--nginx.scrape-uri=http://gateway:9145/stub_status"
+ nginx-exporter networks[]  "internal"

+ node-exporter command[]   "--collector.disable-defaults" "--collector.cpu" "--collector.diskstats" "--collector.filesystem" "--collector.loadavg" "--collector.meminfo" "--collector.stat" "--collector.time" "--collector.uname" "--collector.vmstat"
+ node-exporter networks[]  "internal"
+ node-exporter volumes[]   type="bind" source="./deploy" target="/kit" read_only=true

+ dcgm-exporter networks[]  "internal"
+ dcgm-exporter cap_add[]   "SYS_ADMIN"
+ dcgm-exporter deploy/resources/reservations/devices[]  driver="nvidia" count="all" capabilities[]="gpu"

+ prometheus command[]   "--config.file=/etc/offline-kit/prometheus/prometheus.yml" "--storage.tsdb.path=/prometheus" "--storage.tsdb.retention.time=30d" "--storage.tsdb.retention.size=10GB"
+ prometheus volumes[]   type="bind" source="./.state/monitoring/prometheus" target="/etc/offline-kit/prometheus" read_only=true
+ prometheus volumes[]   type="bind" source="./config/monitoring/rules" target="/etc/offline-kit/rules" read_only=true
+ prometheus volumes[]   type="bind" source="./.state/prometheus" target="/prometheus" read_only=false
+ prometheus networks[]  ~"internal"( "(model-[a-z0-9][a-z0-9_-]*|engines)")+ "edge"

+ grafana environment/GF_PATHS_PROVISIONING                       "/etc/offline-kit/grafana"
+ grafana environment/GF_SECURITY_ADMIN_PASSWORD__FILE            "/etc/offline-kit/secret/password"
+ grafana environment/GF_USERS_ALLOW_SIGN_UP                      "false"
+ grafana environment/GF_ANALYTICS_REPORTING_ENABLED              "false"
+ grafana environment/GF_ANALYTICS_CHECK_FOR_UPDATES              "false"
+ grafana environment/GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES       "false"
+ grafana environment/GF_NEWS_NEWS_FEED_ENABLED                   "false"
+ grafana environment/GF_PLUGINS_PREINSTALL_DISABLED              "true"
+ grafana environment/GF_PLUGINS_PLUGIN_ADMIN_ENABLED             "false"
+ grafana environment/GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED    "true"
+ grafana environment/GF_SECURITY_DISABLE_GRAVATAR                "true"
+ grafana environment/GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH   "/etc/offline-kit/grafana/boards/overview.json"
+ grafana volumes[]   type="bind" source="./config/monitoring/grafana" target="/etc/offline-kit/grafana" read_only=true
+ grafana volumes[]   type="bind" source="./.state/monitoring/grafana" target="/etc/offline-kit/secret" read_only=true
+ grafana volumes[]   type="bind" source="./.state/grafana" target="/var/lib/grafana" read_only=false
+ grafana tmpfs[]     "/tmp:mode=1777,size=256m"
+ grafana networks[]  "internal" "edge"

+ off profiles[]   ~"(monitoring|nginx)"
+ off working_dir  ~"(monitoring|nginx) is switched off: run ./install[.]sh --with (monitoring|nginx)"
+ off networks[]   "internal"

+ prometheus,grafana labels/offline-kit.arguments  ~"[0-9a-f]+"
+ prometheus,grafana ports[]                       @ports
+ prometheus,grafana stop_grace_period             "30s"

+ network internal  true
+ network driver_opts/com.docker.network.bridge.inhibit_ipv4  "true"
+ edge    -         -
'
