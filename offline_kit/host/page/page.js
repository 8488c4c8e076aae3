// The page of the gateway. Rules: it asks this host alone; the key is a variable of this page and is written nowhere; whatever
// comes from a model or the API is shown as text, never as markup; every text of the page is in both languages below.
"use strict";

const TEXTS = {
  en: {
    skip: "Skip to the content", title: "Model services of this host", key: "Key", keyLabel: "The key that you were given",
    plain: "This connection is not encrypted: whoever listens on the network can read the key and the answers.",
    use: "Show the services", forget: "Forget the key", services: "Services", model: "model", type: "type",
    keyHint: "It stays in the memory of this page and is gone when the page is closed or loaded again.",
    length: "longest (tokens)", state: "state", again: "Ask again", examples: "Examples", language: "language", copy: "Copy",
    copied: "copied", chat: "Try it: chat", tokens: "longest answer (tokens)", message: "Message", send: "Send", stop: "Stop",
    clear: "New conversation", embedding: "Try it: how alike are two texts?", first: "First text", second: "Second text",
    compare: "Compare", rerank: "Try it: order documents by a question", query: "Question",
    documents: "Documents, one a line", order: "Order them", up: "up", down: "does not answer", asking: "asking …",
    foot: "This page comes from this host and asks nobody else. To switch it off: OFFLINE_KIT_PAGE=no in .env, then scripts/deploy.sh restart gateway.",
    gatewayUp: "The gateway answers. Which models there are is shown to those who have a key.", gatewayDown: "The gateway does not answer.",
    noKey: "Write the key first.", wrongKey: "This is no key of this host.", alike: "cosine similarity", seconds: "s", stopped: "stopped",
    tooFast: "Too many requests at once: wait a moment.", failed: "No answer: ", none: "No model of this kit answers.",
    sampleChat: "What can you do?", sampleA: "How do I reset my password?", sampleB: "I forgot my login credentials.",
    sampleQuery: "capital of France", sampleDocuments: "Paris is the capital of France.\nCats sleep most of the day.\nLyon lies on the Rhône.",
    sayHello: "Say hello.", cut: "the answer reached its longest length",
  },
  zh: {
    skip: "跳到正文", title: "本机的模型服务", key: "密钥", keyLabel: "您得到的密钥",
    plain: "此连接未加密：网络上的监听者可以看到密钥和回答。",
    use: "显示服务", forget: "忘记密钥", services: "服务", model: "模型", type: "类型",
    keyHint: "密钥只保存在本页的内存中，关闭或重新加载页面后即消失。",
    length: "最大长度（词元）", state: "状态", again: "重新查询", examples: "示例", language: "语言", copy: "复制",
    copied: "已复制", chat: "试用：对话", tokens: "回答的最大长度（词元）", message: "消息", send: "发送", stop: "停止",
    clear: "新对话", embedding: "试用：两段文本有多相似？", first: "第一段文本", second: "第二段文本",
    compare: "比较", rerank: "试用：按问题为文档排序", query: "问题",
    documents: "文档，每行一个", order: "排序", up: "正常", down: "没有应答", asking: "正在查询 …",
    foot: "本页来自本机，不访问任何其他地址。关闭方法：在 .env 中设置 OFFLINE_KIT_PAGE=no，然后运行 scripts/deploy.sh restart gateway。",
    gatewayUp: "网关正常。持有密钥者可以看到有哪些模型。", gatewayDown: "网关没有应答。",
    noKey: "请先输入密钥。", wrongKey: "这不是本机的密钥。", alike: "余弦相似度", seconds: "秒", stopped: "已停止",
    tooFast: "同时的请求过多，请稍候。", failed: "没有回答：", none: "没有模型应答。",
    sampleChat: "你能做什么？", sampleA: "如何重置密码？", sampleB: "我忘记了登录信息。",
    sampleQuery: "法国的首都", sampleDocuments: "巴黎是法国的首都。\n猫一天大部分时间都在睡觉。\n里昂位于罗讷河畔。",
    sayHello: "请打个招呼。", cut: "回答达到了最大长度",
  },
};
const PATHS = { chat: "/v1/chat/completions", embedding: "/v1/embeddings", rerank: "/v1/rerank" };
const SAMPLES = { "chat-text": "sampleChat", "embedding-a": "sampleA", "embedding-b": "sampleB", "rerank-query": "sampleQuery", "rerank-documents": "sampleDocuments" };
const at = (id) => document.getElementById(id);

let language = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
let key = "";
let models = [];
let talk = [];
let running = null;
let healthy = null;

const text = (name) => TEXTS[language][name];

function element(name, content, kind = "") {
  const made = document.createElement(name);
  made.textContent = content;
  made.className = kind;
  return made;
}

function translate() {
  const before = TEXTS[language === "zh" ? "en" : "zh"];
  document.documentElement.lang = language;
  document.title = text("title");
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const [id, name] of Object.entries(SAMPLES)) if (["", before[name]].includes(at(id).value)) at(id).value = text(name);
  at("language").textContent = language === "zh" ? "English" : "中文";
  at("language").lang = language === "zh" ? "en" : "zh";
  tellGateway();
  showModels();
  showExample();
}

async function ask(path, body, signal) {
  const options = { headers: { Authorization: "Bearer " + key }, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401) throw new Error(text("wrongKey"));
  if (answer.status === 429) throw new Error(text("tooFast"));
  let message = String(answer.status);
  try { message = String((await answer.json()).error.message); } catch { /* not in the shape of the API: the status says it */ }
  throw new Error(message);
}

const failure = (error) => text("failed") + (error instanceof Error ? error.message : String(error));

function tell(id, message, kind = "") {
  at(id).textContent = message;
  at(id).className = kind;
}

function tellGateway() {
  if (healthy !== null) tell("gateway", text(healthy ? "gatewayUp" : "gatewayDown"), healthy ? "" : "bad");
  if (models.length) at("gateway").textContent = "";
}

async function checkGateway() {
  try { healthy = (await fetch("/health", { cache: "no-store", credentials: "omit" })).ok; } catch { healthy = false; }
  tellGateway();
}

async function useKey() {
  key = at("key").value.trim();
  if (!key) return tell("said", text("noKey"), "bad");
  try {
    const found = (await (await ask("/v1/models")).json()).data;
    models = found.filter((model) => model.type in PATHS).map((model) => ({ name: String(model.id), type: model.type, length: model.max_model_len, state: "asking" }));
  } catch (error) {
    return tell("said", failure(error), "bad");
  }
  tell("said", models.length ? "" : text("none"));
  at("key").value = "";
  at("forget").hidden = false;
  showModels();
  fillChoices();
  tellGateway();
  checkModels();
}

function forget() {
  if (running) running.abort();
  key = "";
  models = [];
  talk = [];
  at("talk").replaceChildren();
  at("forget").hidden = true;
  showModels();
  fillChoices();
  checkGateway();
}

// One question that costs an engine next to nothing, on a path that no other type of model has.
const PROBES = {
  chat: (model) => ["/v1/messages/count_tokens", { model, messages: [{ role: "user", content: "a" }] }],
  embedding: (model) => [PATHS.embedding, { model, input: "a" }],
  rerank: (model) => [PATHS.rerank, { model, query: "a", documents: ["a"] }],
};

async function checkModels() {
  await Promise.all(models.map(async (model) => {
    model.state = "asking";
    try {
      const [path, body] = PROBES[model.type](model.name);
      const answer = await fetch(path, {
        method: "POST", cache: "no-store", credentials: "omit", body: JSON.stringify(body),
        headers: { Authorization: "Bearer " + key, "Content-Type": "application/json" },
      });
      model.state = answer.status < 500 ? "up" : "down";
    } catch { model.state = "down"; }
    showModels();
  }));
}

function showModels() {
  at("list").hidden = !models.length;
  at("models").replaceChildren(...models.map((model) => {
    const row = document.createElement("tr");
    const name = element("th", model.name);
    name.scope = "row";
    const kind = { up: "good", down: "bad" }[model.state] || "";
    const mark = { up: "✓ ", down: "! " }[model.state] || "";
    row.append(name, element("td", mark + text(model.state), kind), element("td", model.type));
    row.append(element("td", model.length ? model.length.toLocaleString(language) : "", "number"));
    return row;
  }));
}

function fillChoices() {
  const options = (list) => list.map((model) => element("option", model.name));
  at("which").replaceChildren(...options(models));
  at("examples").hidden = !models.length;
  for (const type of Object.keys(PATHS)) {
    const those = models.filter((model) => model.type === type);
    at(type).hidden = !those.length;
    at(type + "-model").replaceChildren(...options(those));
  }
  showExample();
}

function question(model) {
  if (model.type === "chat") return { model: model.name, messages: [{ role: "user", content: text("sayHello") }], max_tokens: 64 };
  if (model.type === "embedding") return { model: model.name, input: [text("sampleA"), text("sampleB")] };
  return { model: model.name, query: text("sampleQuery"), documents: text("sampleDocuments").split("\n") };
}

function showExample() {
  const model = models.find((each) => each.name === at("which").value);
  at("code").textContent = model ? example(model, at("how").value) : "";
  at("copied").textContent = "";
}

function example(model, how) {
  const base = location.origin, path = PATHS[model.type], body = question(model);
  const pretty = JSON.stringify(body, null, 2);
  if (how === "curl") {
    return `curl ${base}${path} \\\n  -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\\n  -d '${pretty.replaceAll("'", "'\\''")}'`;
  }
  if (how === "javascript") {
    const show = { chat: "answer.choices[0].message.content", embedding: "answer.data[0].embedding.length", rerank: "answer.results" }[model.type];
    return `const reply = await fetch("${base}${path}", {\n  method: "POST",\n  headers: { "Authorization": "Bearer " + process.env.KEY, "Content-Type": "application/json" },\n  body: JSON.stringify(${pretty.replaceAll("\n", "\n  ")}),\n});\nconst answer = await reply.json();\nconsole.log(${show});`;
  }
  const start = `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base}/v1", api_key=os.environ["KEY"])\n`;
  const values = (names) => names.map((name) => `    ${name}=${JSON.stringify(body[name])},\n`).join("");
  if (model.type === "chat") return `${start}stream = client.chat.completions.create(\n${values(["model", "messages", "max_tokens"])}    stream=True,\n)\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)`;
  if (model.type === "embedding") return `${start}answer = client.embeddings.create(\n${values(["model", "input"])})\nprint(len(answer.data[0].embedding))`;
  return `import os\nimport requests\n\nanswer = requests.post(\n    "${base}${path}",\n    headers={"Authorization": f"Bearer {os.environ['KEY']}"},\n    json=${pretty.replaceAll("\n", "\n    ")},\n    timeout=60,\n)\nprint(answer.json()["results"])`;
}

async function copy() {
  const range = document.createRange();
  range.selectNodeContents(at("code"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  // Without HTTPS a browser has no clipboard for pages; the old command still works there.
  try { await navigator.clipboard.writeText(at("code").textContent); } catch { document.execCommand("copy"); }
  at("copied").textContent = text("copied");
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function chat() {
  const said = at("chat-text").value.trim();
  if (!said || running) return;
  running = new AbortController();
  talk.push({ role: "user", content: said });
  const place = at("talk"), shown = element("p", ""), thought = element("p", "", "thought");
  place.append(element("p", said, "mine"));
  at("chat-text").value = "";
  busy(true);
  const began = performance.now();
  let reply = "", ended = "";
  try {
    const body = { model: at("chat-model").value, messages: talk, stream: true, max_tokens: Number(at("chat-tokens").value) || 512 };
    for await (const event of events(await ask(PATHS.chat, body, running.signal))) {
      if (event.error) throw new Error(String(event.error.message));
      const choice = (event.choices || [])[0];
      if (!choice) continue;
      const delta = choice.delta || {}, thinking = delta.reasoning_content || delta.reasoning;
      if (thinking) { if (!thought.isConnected) place.append(thought); thought.textContent += thinking; }
      if (delta.content) { if (!shown.isConnected) place.append(shown); reply += delta.content; shown.textContent = reply; }
      if (choice.finish_reason === "length") ended = " · " + text("cut");
      place.scrollTop = place.scrollHeight;
    }
    tell("chat-said", ((performance.now() - began) / 1000).toFixed(1) + " " + text("seconds") + ended);
  } catch (error) {
    if (error.name === "AbortError") tell("chat-said", text("stopped"));
    else tell("chat-said", failure(error), "bad");
  }
  if (reply) talk.push({ role: "assistant", content: reply }); else talk.pop();
  running = null;
  busy(false);
}

function busy(now) {
  at("chat-send").disabled = now;
  at("chat-stop").hidden = !now;
  if (now) tell("chat-said", text("asking"));
}

async function compare() {
  tell("embedding-said", text("asking"));
  try {
    const body = { model: at("embedding-model").value, input: [at("embedding-a").value, at("embedding-b").value] };
    const data = (await (await ask(PATHS.embedding, body)).json()).data;
    const [a, b] = data.sort((one, other) => one.index - other.index).map((item) => item.embedding);
    const dot = (x, y) => x.reduce((sum, value, n) => sum + value * y[n], 0);
    const alike = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    at("alike").value = alike;
    at("alike").hidden = false;
    tell("embedding-said", text("alike") + ": " + alike.toFixed(4));
  } catch (error) {
    tell("embedding-said", failure(error), "bad");
  }
}

async function order() {
  tell("rerank-said", text("asking"));
  try {
    const documents = at("rerank-documents").value.split("\n").filter((line) => line.trim());
    const body = { model: at("rerank-model").value, query: at("rerank-query").value, documents };
    const results = (await (await ask(PATHS.rerank, body)).json()).results;
    results.sort((one, other) => other.relevance_score - one.relevance_score);
    at("rerank-list").replaceChildren(...results.map((item) => element("li", item.relevance_score.toFixed(4) + "  " + documents[item.index])));
    tell("rerank-said", "");
  } catch (error) {
    tell("rerank-said", failure(error), "bad");
  }
}

at("language").addEventListener("click", () => { language = language === "zh" ? "en" : "zh"; translate(); });
at("use").addEventListener("click", useKey);
at("key").addEventListener("keydown", (event) => { if (event.key === "Enter") useKey(); });
at("forget").addEventListener("click", forget);
at("again").addEventListener("click", checkModels);
at("which").addEventListener("change", showExample);
at("how").addEventListener("change", showExample);
at("copy").addEventListener("click", copy);
at("chat-send").addEventListener("click", chat);
at("chat-text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) chat(); });
at("chat-stop").addEventListener("click", () => { if (running) running.abort(); });
at("chat-clear").addEventListener("click", () => { if (running) running.abort(); talk = []; at("talk").replaceChildren(); tell("chat-said", ""); });
at("embedding-send").addEventListener("click", compare);
at("rerank-send").addEventListener("click", order);
at("plain").hidden = window.isSecureContext;
translate();
checkGateway();
