"""The parts of nginx.conf that are the same for every kit, and small pieces to build the rest from.

Rules: no path outside ``@TEMP@`` is written; every status that nginx itself answers with has a JSON page; a connection serves
one request, so that a reload, which closes idle connections, never meets a request on its way; what is said about a directive
is why it is there.
"""

from __future__ import annotations

import json
from typing import Dict, Tuple

# Status -> (status that the client sees, type of error, message). 502 is what nginx finds when an engine does not answer.
REFUSALS: Dict[int, Tuple[int, str, str]] = {
    400: (400, "invalid_request_error", "the request is not valid HTTP"),
    401: (401, "authentication_error", "a valid key is required: Authorization: Bearer KEY"),
    403: (403, "permission_error", "this is not allowed"),
    404: (404, "not_found_error", "there is nothing at this path"),
    405: (405, "invalid_request_error", "this path does not know that method"),
    408: (408, "timeout_error", "the request did not arrive in time"),
    411: (411, "invalid_request_error", "the length of the request is required"),
    413: (413, "invalid_request_error", "the request is larger than 64 MiB"),
    414: (414, "invalid_request_error", "the address is too long"),
    429: (429, "rate_limit_error", "too many requests at once with this key"),
    494: (400, "invalid_request_error", "a header is too large"),
    497: (400, "invalid_request_error", "this port speaks HTTPS"),
    500: (500, "server_error", "the gateway failed"),
    502: (503, "service_unavailable", "the engine does not answer: it is starting or down"),
    503: (503, "service_unavailable", "the engine does not answer: it is starting or down"),
    504: (504, "timeout_error", "the engine did not answer in time"),
}

HTTP = """\
# Written by offline-kit from config/models.json and .env: do not edit, the next 'deploy.sh restart' writes it again.
worker_processes 2;
worker_rlimit_nofile 16384;
pid @TEMP@/nginx.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
    default_type application/json;
    types { }
    server_tokens off;
    client_body_temp_path @TEMP@/client_body;
    proxy_temp_path @TEMP@/proxy;
    fastcgi_temp_path @TEMP@/fastcgi;
    uwsgi_temp_path @TEMP@/uwsgi;
    scgi_temp_path @TEMP@/scgi;

    log_format json escape=json '{"time":"$time_iso8601","request_id":"$request_name","client":"$remote_addr",'
        '"key":"$key_name","port":"$server_port","method":"$request_method","path":"$uri","status":$status,'
        '"bytes_in":$request_length,"bytes_out":$bytes_sent,"seconds":$request_time,"engine":"$engine",'
        '"replica":"$upstream_http_x_offline_kit_engine","engine_status":"$upstream_status","engine_seconds":"$upstream_response_time"}';
    access_log /dev/stdout json;

    # Names are looked up while running. A name that is unknown right now is an engine that is down.
    resolver @RESOLVER@ valid=5s ipv6=off;
    resolver_timeout 2s;

    map $http_authorization $key_name { default ""; include @FOLDER@/keys.conf; }
    map $http_x_request_id $request_name { default $request_id; "~^[A-Za-z0-9._-]{1,64}$" $http_x_request_id; }
    map $request_uri $sent_path { default ""; "~^(?<path_only>[^?]*)" $path_only; }
    map $status $challenge { default ""; 401 'Bearer realm="offline-kit"'; }
    map $status $retry { default ""; 429 1; 503 5; }
    limit_conn_zone $key_name zone=keys:1m;
    limit_conn keys @LIMIT@;
    limit_conn_status 429;
    limit_conn_log_level info;
    add_header X-Request-ID $request_name always;
    add_header WWW-Authenticate $challenge always;
    add_header Retry-After $retry always;

    client_max_body_size 64m;
    client_body_buffer_size 1m;
    client_header_timeout 30s;
    client_body_timeout 60s;
    send_timeout 300s;
    keepalive_timeout 0;
    merge_slashes off;
    absolute_redirect off;

    proxy_http_version 1.1;
    proxy_pass_request_headers off;
    proxy_set_header Host engine;
    proxy_set_header Connection "";
    proxy_set_header Content-Type $content_type;
    proxy_set_header Accept $http_accept;
    proxy_set_header X-Request-Id $request_name;
    proxy_hide_header X-Request-Id;
    proxy_hide_header Server;
    proxy_hide_header X-Offline-Kit-Engine;
    # Only the router tells nginx where to go on; an engine does not.
    proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
    # A token goes to the client as soon as it is made, and a long answer may think for long.
    proxy_buffering off;
    proxy_max_temp_file_size 0;
    proxy_connect_timeout 5s;
    proxy_send_timeout 60s;
    proxy_read_timeout 3600s;
    # A question that failed half-way is the client's to ask again.
    proxy_next_upstream off;

@SERVERS@
}
"""


def page(path: str, *lines: str, methods: str = "GET|HEAD", key: bool = False) -> str:
    """One exact path. ``methods`` as in an expression; ``key``: whether a known key is required."""
    # The path as it was sent must be the path as nginx understood it.
    checks = ["if ($sent_path != $uri) { return 404; }"]
    checks += ['if ($key_name = "") { return 401; }'] if key else []
    checks.append(f"if ($request_method !~ ^({methods})$) {{ return 405; }}")
    body = "\n".join(f"            {line}" for line in [*checks, *lines])
    return f"        location = {path} {{\n{body}\n        }}"


def answer(status: int, kind: str, message: str) -> str:
    """The body of a refusal, in the shape of OpenAI's errors."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def refusals() -> str:
    """The error pages of one server."""
    lines = []
    for status, (shown, kind, message) in REFUSALS.items():
        # A path and not a named location: nginx cannot go to one of those from a request line that it could not read.
        lines.append(f"        error_page {status} ={shown} /.refuse/{status};")
        # Its own limit is off, or a request that is too large would be refused once more on the way there.
        body = f"internal; client_max_body_size 0; return {shown} '{answer(shown, kind, message)}\\n';"
        lines.append(f"        location = /.refuse/{status} {{ {body} }}")
    return "\n".join(lines)
