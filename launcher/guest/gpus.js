// The GPUs: a card each, with its last ten minutes as lines.  What the box says is data: textContent.
"use strict";

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const SPAN = 600; // seconds that the lines show, and their width
const HEIGHT = 48;
// Of NVML's clock event reasons those that somebody can do something about.
const SLOWED = [[0x4, "power limit"], [0x8, "hardware slowdown"], [0x20, "heat"], [0x40, "heat"],
  [0x80, "power brake"]];
const cards = new Map(); // by index
const past = new Map(); // by index: {at: seconds, busy: percent, memory: percent}

function make(name, text, style) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

class Gauge {
  constructor(label) {
    this.row = make("div", undefined, "gauge");
    this.bar = make("progress");
    this.bar.setAttribute("aria-label", label);
    this.text = make("span");
    this.row.append(make("span", label), this.bar, this.text);
  }

  show(value, most, text) {
    this.row.hidden = value === null || value === undefined;
    this.bar.max = most || 1;
    this.bar.value = value || 0;
    this.bar.setAttribute("aria-valuetext", text);
    this.text.textContent = text;
  }
}

// Two lines over ten minutes, told apart by more than their colour.
class Lines {
  constructor() {
    this.picture = drawn("svg", { viewBox: `0 0 ${SPAN} ${HEIGHT}`, role: "img", class: "lines",
      preserveAspectRatio: "none" });
    this.busy = drawn("path", { class: "busy" });
    this.memory = drawn("path", { class: "memory" });
    this.picture.append(this.memory, this.busy);
    this.legend = make("div", "", "soft");
  }

  show(samples, now) {
    this.draw(this.busy, samples, "busy", now);
    this.draw(this.memory, samples, "memory", now);
    const busy = samples.map((one) => one.busy).filter((value) => value !== null);
    const mean = busy.reduce((sum, value) => sum + value, 0) / busy.length;
    this.legend.textContent = `ten minutes: ${busy.length ? "busy ──, " : ""}memory ╌╌`;
    this.picture.setAttribute("aria-label", busy.length
      ? `Busy in the last ten minutes: ${Math.min(...busy)} to ${Math.max(...busy)} %, `
        + `on average ${mean.toFixed(0)} %`
      : "The last ten minutes of the memory");
  }

  draw(path, samples, key, now) {
    let before = null;
    const steps = samples.filter((one) => one[key] !== null).map((one) => {
      const joined = before !== null && one.at - before < 15; // else nobody looked
      before = one.at;
      const x = (SPAN - (now - one.at)).toFixed(1);
      return `${joined ? "L" : "M"}${x} ${(HEIGHT - 1 - one[key] / 100 * (HEIGHT - 2)).toFixed(1)}`;
    });
    path.setAttribute("d", steps.join(""));
  }
}

class Card {
  constructor(gpu) {
    this.item = make("li");
    this.uuid = gpu.uuid;
    this.head = make("strong", `GPU ${gpu.index}`);
    this.fault = make("p", "", "odd");
    this.body = make("div");
    this.busy = new Gauge("Busy");
    this.memory = new Gauge("Memory");
    this.lines = new Lines();
    this.facts = make("ul", undefined, "facts");
    this.instances = make("div");
    this.users = make("details");
    this.summary = make("summary");
    this.list = make("ul");
    this.users.append(this.summary, this.list);
    this.body.append(make("div", gpu.uuid ?? "", "soft"), this.busy.row, this.memory.row,
      this.lines.picture, this.lines.legend, this.facts, this.instances, this.users);
    this.item.append(this.head, make("span", ` ${gpu.name ?? ""}`), this.fault, this.body);
  }

  show(gpu) {
    this.fault.textContent = gpu.fault ? `lost: ${gpu.fault}` : "";
    this.body.hidden = Boolean(gpu.fault);
    if (gpu.fault) return;
    this.busy.show(gpu.utilization, 100, `${gpu.utilization} %`);
    showMemory(this.memory, gpu);
    this.lines.show(past.get(gpu.index) ?? [], performance.now() / 1000);
    fill(this.facts, facts(gpu).map(([text, odd]) => make("li", text, odd ? "odd" : "")));
    showInstances(this.instances, gpu.instances);
    const users = gpu.processes.concat(...gpu.instances.map((one) => one.processes));
    this.users.hidden = !users.length;
    this.summary.textContent = `${users.length} process${users.length === 1 ? "" : "es"}`;
    fill(this.list, users.map((user) => make("li", userText(user))));
  }
}

// Replace children only where they say something else: whoever reads or selects is not disturbed.
function fill(place, children) {
  const same = place.children.length === children.length && children.every(
    (child, at) => child.isEqualNode(place.children[at]));
  if (!same) place.replaceChildren(...children);
}

// How much of what is there, in the unit that the whole is told in.
function usedOf(used, total) {
  const [unit, name, digits] = total < GIB ? [MIB, "MiB", 0] : [GIB, "GiB", 1];
  return `${(used / unit).toFixed(digits)} of ${(total / unit).toFixed(digits)} ${name}`;
}

function showMemory(gauge, of) {
  const [used, total] = [of.memory_used, of.memory_total];
  if (!total) {
    gauge.show(null);
    return;
  }
  gauge.show(used, total, usedOf(used, total));
}

function showInstances(place, instances) {
  if (place.children.length !== instances.length) {
    place.gauges = instances.map((one) => new Gauge(
      `${(one.name ?? "MIG").split("MIG ").pop()} (GI ${one.gpu_instance})`));
    place.replaceChildren(...place.gauges.map((gauge) => gauge.row));
  }
  instances.forEach((one, at) => showMemory(place.gauges[at], one));
}

function flow(bytes) {
  return bytes >= 1000 * MIB ? `${(bytes / GIB).toFixed(1)} GiB/s`
    : `${(bytes / MIB).toFixed(0)} MiB/s`;
}

// Return [text, whether it is odd] for each thing that the GPU tells.
function facts(gpu) {
  const found = [];
  const add = (value, text, odd = false) => {
    if (value !== null && value !== undefined) found.push([text, odd]);
  };
  add(gpu.temperature, `${gpu.temperature} °C${
    gpu.temperature_memory ? `, memory ${gpu.temperature_memory} °C` : ""}`);
  add(gpu.power, `${gpu.power?.toFixed(0)}${
    gpu.power_limit ? ` of ${gpu.power_limit.toFixed(0)}` : ""} W`);
  add(gpu.clock_sm, `SM ${gpu.clock_sm} of ${gpu.clock_sm_max ?? "?"} MHz, memory ${
    gpu.clock_memory ?? "?"} MHz`);
  const slowed = new Set(SLOWED.filter(([bit]) => gpu.slowed_by & bit).map(([, word]) => word));
  if (slowed.size) found.push([`slowed by: ${[...slowed].join(", ")}`, true]);
  add(gpu.pcie_sent, `PCIe sent ${flow(gpu.pcie_sent)}, received ${flow(gpu.pcie_received)}`);
  add(gpu.nvlink_sent, `NVLink sent ${flow(gpu.nvlink_sent)}, received ${
    flow(gpu.nvlink_received)}`);
  if (gpu.ecc_uncorrected) found.push([`${gpu.ecc_uncorrected} uncorrected ECC errors`, true]);
  return found;
}

function userText(user) {
  const who = user.pid === null ? "not this user's, or of another container"
    : `${user.name} (pid ${user.pid})`;
  return user.memory === null ? who : `${who}: ${(user.memory / GIB).toFixed(1)} GiB`;
}

function remember(index, at, gpu) {
  const share = gpu.memory_total ? gpu.memory_used / gpu.memory_total * 100 : null;
  const samples = past.get(index) ?? [];
  samples.push({ at, busy: gpu.utilization ?? null, memory: share });
  while (samples[0].at < at - SPAN) samples.shift();
  past.set(index, samples);
}

// What was seen before the page was opened.
function recall(history, gpus) {
  const now = performance.now() / 1000;
  const at = Object.fromEntries(history.keys.map((key, place) => [key, place]));
  for (const [ago, values] of history.samples) {
    gpus.forEach((gpu, index) => {
      const told = values[index];
      if (gpu.fault || !told) return;
      remember(gpu.index, now - ago, { memory_total: gpu.memory_total,
        utilization: told[at.utilization], memory_used: told[at.memory_used] });
    });
  }
}

function showCards(gpus) {
  const now = performance.now() / 1000;
  for (const gpu of gpus) {
    if (!gpu.fault) remember(gpu.index, now, gpu);
    let card = cards.get(gpu.index);
    if (!card || (gpu.uuid && card.uuid !== gpu.uuid)) {
      card = new Card(gpu);
      cards.set(gpu.index, card);
    }
    card.show(gpu);
  }
  fill(document.getElementById("gpus"), gpus.map((gpu) => cards.get(gpu.index).item));
}
