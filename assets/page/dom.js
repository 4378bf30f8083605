// What every script of the page begins with: finding and making elements, and model text that can do no harm.
const find = (selector) => element.querySelector(selector);
const slider = () => document.querySelector('#threshold input[type="range"]');
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

// Control characters become visible symbols: an escape sequence must neither act nor vanish.
const symbol = (code) => (code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : '�');
const visible = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (c) => symbol(c.charCodeAt(0)));
