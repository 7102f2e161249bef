// Fills in what changes.  Every text goes in by textContent: what the box says is data.
"use strict";

const INTERVAL = 2000; // milliseconds between two looks at the GPUs, while the page is seen
const EVERY = 8; // looks at the GPUs for one at the rest: each of these starts a command
const SELDOM = 32; // and for one at the log
const LAYERS = 700; // milliseconds between two looks at a doctor that runs
const byId = (id) => document.getElementById(id);
let refused = false; // the login has ended: asking on would only fill Jupyter's log
let recalled = false;
let troubled = ""; // what was wrong at the last look

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

async function showGpus() {
  try {
    const said = await json("api/gpus");
    if (!recalled && said.gpus.length) {
      recalled = true;
      recall(await json("api/gpus/history"), said.gpus);
    }
    const none = said.gpus.length ? "" : "no GPU";
    say("gpus-said", said.fault ?? none, said.fault ? "odd" : "");
    showCards(said.gpus);
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

async function showBox() {
  try {
    const said = await json("api/metrics");
    const [heading] = said.summary.split("; fix: "); // which stands below
    say("state", heading, said.state === "healthy" ? "well" : "odd");
    showServices(said);
    byId("jobs-part").hidden = !said.jobs_text;
    byId("jobs").textContent = said.jobs_text;
    showRoom(said);
    const troubles = said.concerns.map(({ what }) => what).join();
    if (troubles !== troubled) await showLog();
    troubled = troubles;
    fill(byId("troubles"), said.concerns.map(trouble));
  } catch (error) {
    say("state", error.message, "odd");
    say("services-said", "");
  }
}

function showServices(said) {
  const probes = said.services;
  const rows = Object.entries(said.programs).map(([name, program]) =>
    serviceRow(name, program, probes[name === "sshd" ? "ssh" : name]));
  fill(byId("services").tBodies[0], rows);
  byId("services").hidden = !rows.length;
  say("services-said", probes.gpus ? `GPUs: ${probes.gpus.detail}` : "");
}

function showRoom(said) {
  say("limits", said.limits.text);
  const { memory, memory_available: left } = said.limits;
  const taken = Object.entries(said.room).map(([path, room]) =>
    [path, room.size - room.free, room.size]);
  if (memory && left !== null) taken.unshift(["Memory", memory - left, memory]);
  fill(byId("rooms"), taken.map(([name, used, size]) => {
    const gauge = new Gauge(name);
    gauge.show(used, size, usedOf(used, size));
    return gauge.row;
  }));
}

function trouble({ what, fix }) {
  const note = make("div", undefined, "note");
  note.append(make("p", what));
  if (fix) note.append(copied("fix", fix));
  return note;
}

async function showLog() {
  try {
    const text = await ask("log.txt");
    const place = byId("log");
    if (place.textContent !== text) place.textContent = text;
  } catch (error) {
    byId("log").textContent = error.message;
  }
}

async function showTopology() {
  const picture = byId("picture");
  try {
    const text = await ask("topology.txt");
    byId("topology").textContent = text;
    if (text.startsWith("launcher: ")) { // why there is none
      byId("topology").className = "said";
      return;
    }
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
  const more = make("details");
  const text = make("pre", "…");
  text.tabIndex = 0;
  more.append(make("summary", `About ${found.id}`), text);
  more.addEventListener("toggle", async () => {
    try {
      text.textContent = await ask(`explain/${found.id}.txt`);
    } catch (error) {
      text.textContent = error.message;
    }
  }, { once: true });
  note.append(make("strong", found.what), make("p", found.means), copied("fix", found.fix), more);
  return note;
}

function showLayers(layers) {
  fill(byId("layers"), layers.map((layer) => make("li",
    `${layer.name}: ${layer.status}: ${layer.text}`, layer.status === "failed" ? "odd" : "")));
}

async function followDoctor(run) {
  while (run.going) {
    await new Promise((resolve) => { setTimeout(resolve, LAYERS); });
    const said = run.going ? await json("api/doctor/layers") : { layers: [] };
    if (run.going && said.running) showLayers(said.layers);
  }
}

async function runDoctor() {
  const button = byId("doctor");
  const run = { going: true };
  button.disabled = true;
  byId("findings").replaceChildren();
  showLayers([]);
  say("doctor-said", "looking …");
  const following = followDoctor(run).catch(() => {}); // the answer itself says what is wrong
  try {
    const said = await json("api/doctor", "POST");
    run.going = false;
    say("doctor-said", said.healthy ? "healthy" : "something is broken", said.healthy ? "well" : "odd");
    showLayers(said.layers);
    byId("findings").replaceChildren(
      ...[said.failure, ...said.warnings].filter(Boolean).map(finding));
  } catch (error) {
    run.going = false;
    say("doctor-said", error.message, "odd");
  }
  await following;
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
      if (count % EVERY === 0) await showBox();
      if (count % SELDOM === 0) await showLog();
    }
    await new Promise((resolve) => { setTimeout(resolve, INTERVAL); });
  }
}

byId("doctor").addEventListener("click", runDoctor);
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", copy);
look();
showTopology();
