// Fills in what changes.  Every text goes in by textContent: what the box says is data.
"use strict";

const INTERVAL = 2000; // milliseconds between two looks at the GPUs, while the page is seen
const EVERY = 5; // looks at the GPUs for one at the services
const GIB = 2 ** 30;
const byId = (id) => document.getElementById(id);
let refused = false; // the login has ended: asking on would only fill Jupyter's log

function make(name, text, style) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}

function say(id, text, style) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text; // a screen reader says it once
  place.className = style || "";
}

async function ask(path, method = "GET") {
  // A JupyterHub refuses a fetch() that does not send the cookie's token back.
  const xsrf = /(?:^|; )_xsrf=([^;]+)/.exec(document.cookie);
  const headers = xsrf ? { "X-XSRFToken": decodeURIComponent(xsrf[1]) } : {};
  const answer = await fetch(path, { method, headers, cache: "no-store" });
  if (answer.status === 401 || answer.status === 403) {
    refused = true;
    throw new Error("the login has ended: load the page again");
  }
  const text = await answer.text();
  if (!answer.ok) throw new Error(messageOf(text) || `Jupyter answered ${answer.status}`);
  return text;
}

function messageOf(text) {
  try {
    return JSON.parse(text).message;
  } catch {
    return "";
  }
}

const json = async (path, method) => JSON.parse(await ask(path, method));

function age(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function gauge(label, value, most, text) {
  const row = make("div", undefined, "gauge");
  row.append(make("span", label));
  const bar = make("progress");
  bar.max = most;
  bar.value = value;
  bar.setAttribute("aria-label", label);
  bar.setAttribute("aria-valuetext", text);
  row.append(bar, make("span", text));
  return row;
}

function card(gpu) {
  const item = make("li");
  item.append(make("strong", `GPU ${gpu.index}`));
  if (gpu.fault) {
    item.append(make("p", `lost: ${gpu.fault}`, "odd"));
    return item;
  }
  item.append(make("span", ` ${gpu.name ?? "NVIDIA GPU"}`), make("div", gpu.uuid ?? "", "soft"));
  if (gpu.utilization !== null) {
    item.append(gauge("Busy", gpu.utilization, 100, `${gpu.utilization} %`));
  }
  if (gpu.memory_total) {
    const [used, total] = [gpu.memory_used / GIB, gpu.memory_total / GIB];
    item.append(gauge("Memory", used, total, `${used.toFixed(1)} of ${total.toFixed(1)} GiB`));
  }
  const rest = [];
  if (gpu.temperature !== null) rest.push(`${gpu.temperature} °C`);
  if (gpu.power !== null) {
    const limit = gpu.power_limit ? ` of ${gpu.power_limit.toFixed(0)}` : "";
    rest.push(`${gpu.power.toFixed(0)}${limit} W`);
  }
  item.append(make("div", rest.join(" · ") || "tells neither temperature nor power", "soft"));
  return item;
}

async function showGpus() {
  try {
    const said = await json("api/gpus");
    const none = said.gpus.length ? "" : "no GPU";
    say("gpus-said", said.fault ?? none, said.fault ? "odd" : "");
    byId("gpus").replaceChildren(...said.gpus.map(card));
  } catch (error) {
    say("gpus-said", error.message, "odd");
  }
}

function serviceRow(name, program, probe) {
  const row = make("tr");
  const head = make("th", name);
  head.scope = "row";
  const well = program.state === "running" && (probe?.ready ?? true);
  const detail = [probe?.detail, program.end && `before: ${program.end}`].filter(Boolean).join("; ");
  row.append(head, make("td", program.state, well ? "well" : "odd"));
  row.append(make("td", age(program.for)), make("td", program.restarts), make("td", detail));
  return row;
}

async function showStatus() {
  try {
    const said = await json("api/status");
    const up = said.uptime ? `, up ${age(said.uptime)}` : "";
    say("state", said.healthy ? `healthy${up}` : `${said.state}: ${said.reason}`,
      said.healthy ? "well" : "odd");
    const probes = said.services;
    const rows = Object.entries(said.programs).map(([name, program]) =>
      serviceRow(name, program, probes[name === "sshd" ? "ssh" : name]));
    byId("services").tBodies[0].replaceChildren(...rows);
    byId("services").hidden = !rows.length;
    const gpus = probes.gpus ? `GPUs: ${probes.gpus.detail}` : "";
    const killed = said.memory_kills ? `${said.memory_kills} killed for want of memory` : "";
    const xids = Object.entries(said.xids || {}).map(([gpu, codes]) =>
      `GPU ${gpu}: Xid ${Object.entries(codes).map(([code, n]) => `${code} ×${n}`).join(", ")}`);
    say("services-said", [gpus, ...xids, killed].filter(Boolean).join("; "));
  } catch (error) {
    say("state", error.message, "odd");
    say("services-said", "");
  }
}

async function showTopology() {
  const picture = byId("picture");
  try {
    byId("topology").textContent = await ask("topology.txt");
    picture.addEventListener("load", () => { picture.hidden = false; });
    picture.src = "topology.svg";
  } catch (error) {
    byId("topology").textContent = error.message;
  }
}

function copied(label, value) {
  const row = make("div", undefined, "copied");
  const text = make("pre", value);
  text.tabIndex = 0;
  const button = make("button", "Copy", "copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy: ${label}`);
  button.addEventListener("click", copy);
  row.append(make("span", label), text, button);
  return row;
}

function finding(found) {
  const note = make("div", undefined, "note");
  note.append(make("strong", found.what), make("p", found.means), copied("fix", found.fix));
  note.append(make("p", `launcher explain ${found.id}`, "soft"));
  return note;
}

async function runDoctor() {
  const button = byId("doctor");
  button.disabled = true;
  say("doctor-said", "looking …");
  try {
    const said = await json("api/doctor", "POST");
    say("doctor-said", said.healthy ? "healthy" : "something is broken", said.healthy ? "well" : "odd");
    byId("layers").replaceChildren(...said.layers.map((layer) => make("li",
      `${layer.name}: ${layer.status}: ${layer.text}`, layer.status === "failed" ? "odd" : "")));
    byId("findings").replaceChildren(
      ...[said.failure, ...said.warnings].filter(Boolean).map(finding));
  } catch (error) {
    say("doctor-said", error.message, "odd");
  }
  button.disabled = false;
}

async function copy(event) {
  const button = event.currentTarget;
  const text = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch { // not over http from another machine: the text is marked, to copy by hand
    getSelection().selectAllChildren(text);
    button.textContent = document.execCommand("copy") ? "Copied" : "Marked";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

async function look() {
  for (let count = 0; !refused; count += 1) {
    if (document.visibilityState === "visible") {
      await showGpus();
      if (count % EVERY === 0) await showStatus();
    }
    await new Promise((resolve) => { setTimeout(resolve, INTERVAL); });
  }
}

byId("doctor").addEventListener("click", runDoctor);
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", copy);
look();
showTopology();
