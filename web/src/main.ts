/** The entry of the page; its data stand in the document. */
import "./style.css";
import { mount } from "./mount";
import { hook } from "./hook";
import type { Payload } from "./payload";

const text = document.getElementById("payload")!.textContent!.trim();
const payload = JSON.parse(text || '{"format":1,"fromnoise":"","runs":[],"code":{}}') as Payload;
void mount(document.getElementById("app")!, payload).then((page) => {
  if (page) hook(page);
  document.documentElement.dataset.ready = "";
});
