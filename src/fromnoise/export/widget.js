// The widget's page stands in a frame of its own, so that its style and the notebook's do not meet; state goes by
// messages, named as in web/src/exchange.ts.
const IN = { choices: "choices", time: "time" };
const OUT = { choices: "choices", time: "time", samples: "drawn", points: "drawn_by_hand" };

function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.title = "A diffusion model, live";
  frame.style.cssText = "width: 100%; height: 820px; border: 0";
  frame.srcdoc = model.get("document");
  const send = (name, value) => frame.contentWindow?.postMessage({ fromnoise: name, value }, "*");
  const hear = (event) => {
    if (event.source !== frame.contentWindow || !(event.data?.fromnoise in OUT)) return;
    model.set(OUT[event.data.fromnoise], event.data.value);
    model.save_changes();
  };
  const changes = Object.entries(IN).map(([trait, name]) => [`change:${trait}`, () => send(name, model.get(trait))]);
  changes.push(["change:pressed", () => send("generate", null)]);
  window.addEventListener("message", hear);
  for (const [event, listener] of changes) model.on(event, listener);
  el.append(frame);
  return () => {
    window.removeEventListener("message", hear);
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
