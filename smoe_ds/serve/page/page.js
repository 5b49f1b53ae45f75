// The page of smoe-ds serve: sends the text to /translate and shows the answer. All text goes in as text, never as HTML.
"use strict";

const at = (id) => document.getElementById(id);
const names = typeof Intl.DisplayNames === "function" ? new Intl.DisplayNames(["en"], { type: "language" }) : null;
const TOKEN = "smoe-ds-token";
let known = null;
let asked = 0;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// "nso" becomes "Northern Sotho (nso)" where the browser knows it.
function languageName(code) {
  try {
    const name = names.of(code);
    return name === code ? code : `${name} (${code})`;
  } catch {
    return code;
  }
}

async function call(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({ detail: `The service answered with status ${response.status}.` }));
  if (response.status === 401) askForToken(Boolean(token));
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

function askForToken(wrong) {
  sessionStorage.removeItem(TOKEN);
  at("token-form").hidden = false;
  at("form").hidden = true;
  at("token-problem").textContent = wrong ? "That is not the token." : "";
  at("token").select();
}

function fill(select, codes) {
  for (const code of codes) select.append(element("option", languageName(code), { value: code }));
}

function show(answer) {
  const translation = at("translation");
  translation.textContent = answer.text;
  translation.lang = answer.to;
  at("copy").disabled = false;
  at("warnings").replaceChildren(...answer.warnings.map((warning) => element("li", warning)));
  at("sentence-list").replaceChildren(...answer.sentences.map((sentence) => shown(sentence, answer.to)));
  at("sentences").hidden = false;
}

function shown(sentence, to) {
  const item = document.createElement("li");
  item.append(element("p", sentence.source, { class: "source", dir: "auto", lang: at("from").value }));
  const table = document.createElement("table");
  const head = document.createElement("tr");
  head.append(element("th", "Score", { scope: "col" }), element("th", "Translation", { scope: "col" }));
  table.append(head);
  for (const one of sentence.translations) {
    const row = document.createElement("tr");
    row.append(
      element("td", one.score.toFixed(3), { class: "score" }),
      element("td", one.text, { class: "answer", dir: "auto", lang: to }),
    );
    table.append(row);
  }
  item.append(table);
  return item;
}

function count() {
  const length = [...at("text").value].length;
  const most = known ? known.max_characters : Infinity;
  at("count").textContent = known ? `${length.toLocaleString("en")} of ${most.toLocaleString("en")} characters` : "";
  at("count").classList.toggle("over", length > most);
}

async function translate() {
  const number = ++asked;
  const body = { text: at("text").value, to: at("to").value, n_best: Number(at("n-best").value) };
  if (at("from").value) body.from = at("from").value;
  at("problem").textContent = "";
  at("status").textContent = "Translating …";
  const began = performance.now();
  try {
    const answer = await call("translate", body);
    if (number !== asked) return;
    show(answer);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const sentences = answer.sentences.length === 1 ? "1 sentence" : `${answer.sentences.length} sentences`;
    at("status").textContent = `${sentences} in ${seconds} s`;
    document.dispatchEvent(new CustomEvent("translated", { detail: { request: body, answer } }));
  } catch (error) {
    if (number !== asked) return;
    at("status").textContent = "";
    at("problem").textContent = error.message;
  }
}

// The model has to be told the language of the text: there is always one, and at first a trained direction if one is known.
function chooseSource() {
  at("from").options[0].remove();
  const trained = (known.directions ?? []).map((direction) => direction.split("-"));
  const first = trained.find(([from, to]) => known.sources.includes(from) && known.targets.includes(to));
  if (first) [at("from").value, at("to").value] = first;
}

async function start() {
  try {
    known = await call("languages");
  } catch (error) {
    at("problem").textContent = error.message;
    return;
  }
  at("problem").textContent = "";
  at("token-form").hidden = true;
  at("form").hidden = false;
  at("model").textContent = known.model;
  if (at("to").length) return; // a token that was asked for again
  fill(at("from"), known.sources);
  fill(at("to"), known.targets);
  if (known.reads_source) chooseSource();
  for (let number = 1; number <= known.n_best; number++) at("n-best").append(element("option", String(number)));
  count();
  at("translate").disabled = false;
  at("text").focus();
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (known) translate();
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});
at("text").addEventListener("input", count);
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value.trim());
  start();
});
at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("translation").textContent);
    at("status").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("translation"));
    at("status").textContent = "Selected; copy it with Ctrl+C";
  }
});
start();
