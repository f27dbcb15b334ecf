"use strict";

const byId = (id) => document.getElementById(id);
let running = null;

function headers() {
  const key = byId("key").value.trim();
  const common = { "Content-Type": "application/json" };
  return key ? { ...common, Authorization: `Bearer ${key}` } : common;
}

function show(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

async function loadModels() {
  const response = await fetch("v1/models", { headers: headers() });
  if (!response.ok) return;
  const models = (await response.json()).data.filter((model) => model.cost !== undefined);
  const options = models.map((model) => {
    const option = document.createElement("option");
    option.value = model.id;
    option.textContent = `${model.id} (${model.cost} ${model.cost_unit})`;
    return option;
  });
  const select = byId("model");
  const current = select.value;
  select.replaceChildren(select.options[0], ...options);
  select.value = current;
  byId("unit").textContent = models.length ? `(${models[0].cost_unit})` : "";
}

function requestBody() {
  const number = (id) => (byId(id).value === "" ? undefined : Number(byId(id).value));
  return JSON.stringify({
    prompt: byId("prompt").value,
    model: byId("model").value,
    quality: byId("quality").value || undefined,
    budget: number("budget"),
    n: number("n"),
    seed: number("seed"),
  });
}

function addFact(name, value) {
  const row = byId("facts").insertRow();
  const heading = document.createElement("th");
  heading.scope = "row";
  heading.textContent = name;
  row.append(heading);
  row.insertCell().textContent = value;
}

function showAnswer(answer) {
  const { catimage } = answer;
  const images = answer.data.filter((item) => item.b64_json).map((item, index) => {
    const image = document.createElement("img");
    image.src = `data:image/${answer.output_format};base64,${item.b64_json}`;
    image.alt = `Image ${index + 1} for: ${byId("prompt").value}`;
    return image;
  });
  byId("images").replaceChildren(...images);
  byId("facts").replaceChildren();
  addFact("Candidate", catimage.candidate);
  addFact("Cost", `${catimage.cost} ${catimage.cost_unit}`);
  addFact("Saved", `${catimage.saved} ${catimage.cost_unit}, compared with ${catimage.reference}`);
  addFact("Seed", catimage.seed);
  for (const [stage, seconds] of Object.entries(catimage.seconds)) {
    addFact(`Time: ${stage}`, `${seconds.toFixed(3)} s`);
  }
  if (catimage.truncated) addFact("Prompt", `cut at ${catimage.tokens} tokens`);
  if (catimage.flagged.length) addFact("Flagged images", catimage.flagged.length);
  byId("answer").hidden = false;
}

async function generate(signal) {
  const options = { method: "POST", headers: headers(), body: requestBody(), signal };
  const response = await fetch("v1/images/generations", options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  showAnswer(answer);
}

async function submit(event) {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  byId("send").disabled = true;
  byId("stop").disabled = false;
  show("Generating…");
  try {
    await generate(running.signal);
    show("Done.");
  } catch (error) {
    show(error.name === "AbortError" ? "Cancelled." : error.message, error.name !== "AbortError");
  } finally {
    running = null;
    byId("send").disabled = false;
    byId("stop").disabled = true;
  }
}

byId("form").addEventListener("submit", submit);
byId("stop").addEventListener("click", () => running && running.abort());
const refresh = () => loadModels().catch((error) => show(error.message, true));
byId("key").addEventListener("change", refresh);
refresh();
