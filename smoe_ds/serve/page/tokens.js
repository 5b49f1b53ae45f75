// After a translation, on demand: what each token of a sentence took. The HTML comes from /tokens, all text in it escaped.
"use strict";

(() => {
const LONGEST = 80; // characters of a sentence in the list
let translation = null;
let asking = 0;
let waitingFor = null;

document.addEventListener("translated", ({ detail }) => {
  translation = detail;
  asking++;
  waitingFor = null;
  at("view").replaceChildren();
  at("view-status").textContent = at("view-problem").textContent = "";
  const sentences = detail.answer.sentences.map(({ source }, number) => {
    const beginning = [...source].slice(0, LONGEST).join("");
    return element("option", `${number + 1}: ${beginning}${beginning === source ? "" : "…"}`, { value: number });
  });
  at("view-sentence").replaceChildren(...sentences);
  at("view-choice").hidden = sentences.length === 1;
  at("token-view").hidden = !known.has_strata;
});

async function show() {
  const chosen = Number(at("view-sentence").value);
  if (chosen === waitingFor) return;
  waitingFor = chosen;
  const number = ++asking;
  const { request, answer } = translation;
  const sentence = answer.sentences[chosen];
  const body = { text: sentence.source, to: request.to };
  if (request.from) body.from = request.from;
  at("view-problem").textContent = "";
  at("view-status").textContent = "Following the tokens …";
  let found;
  try {
    found = await follow(body, sentence.translations[0].text);
  } catch (error) {
    if (number === asking) tell("", error.message);
    return;
  }
  if (number !== asking) return;
  at("view").innerHTML = found.html;
  smoeTokenView(at("view"));
  tell(answer.sentences.length === 1 ? "Shown below" : `Sentence ${chosen + 1} is shown below`, "");
}

// The tokens that the model itself wrote; a text can be spelled with others. If it now translates otherwise (in a batch
// sums are rounded differently), those of the text that is on the page.
async function follow(body, text) {
  const found = await call("tokens", body);
  return found.translation === text ? found : call("tokens", { ...body, translation: text });
}

function tell(status, problem) {
  waitingFor = null;
  at("view-status").textContent = status;
  at("view-problem").textContent = problem;
}

at("view-show").addEventListener("click", show);
})();
