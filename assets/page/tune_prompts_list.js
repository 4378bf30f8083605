// What every prompt gave at the measured threshold nearest to the picked one; its text is fetched when it is asked for.
const list = element.querySelector('.tune-list ol'), listed = element.querySelector('.tune-list');
const items = new Map();   // by the prompt's number

const node = (tag, name, text) => {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};

const addPrompt = ([number, place, prompt, expected, right, agreement], textOf) => {
  const item = node('li', 'tune-item'), head = node('div', 'tune-item-head');
  const mark = node('span', 'tune-mark'), button = Object.assign(node('button', '', 'text'), { type: 'button' });
  const text = Object.assign(node('pre', 'tune-text'), { hidden: true, tabIndex: 0 });
  button.setAttribute('aria-expanded', 'false');
  head.append(mark, node('span', 'tune-item-prompt', prompt), node('span', 'tune-item-expected', expected === null ? '' : `→ ${expected}`), button);
  item.append(head, text);
  item.title = place;
  const one = { item, mark, text, right, agreement, number, shown: null, open: false };
  button.addEventListener('click', async () => {
    one.open = !one.open;
    button.setAttribute('aria-expanded', String(one.open));
    text.hidden = !one.open;
    one.shown = null;
    if (one.open) await textOf(one);
  });
  items.set(number, one);
  const after = [...list.children].find((child) => Number(child.dataset.number) > number);
  item.dataset.number = number;
  list.insertBefore(item, after ?? null);
};

// `at` is a point's number.
const drawPrompts = (kind, at, where, textOf) => {
  element.querySelector('.tune-list-at').textContent = `At ${where}, the measured threshold nearest to the picked one.`;
  for (const one of items.values()) {
    const judged = kind === 'right' && one.right !== null;
    one.mark.textContent = judged ? (one.right[at] ? '✓ right' : '✗ wrong') : `${wholePercent(one.agreement[at])} as the LLM`;
    one.mark.dataset.mark = judged ? (one.right[at] ? 'right' : 'wrong') : '';
    if (one.open && one.shown !== at) textOf(one);
  }
};

const forgetPrompts = () => { items.clear(); list.replaceChildren(); };
