// The texts that are kept, as a strip to go back by, and undo and redo of all that changed the text. The server has them:
// going to one, or putting two side by side, runs no model.
import { follow } from '../lib/channel.js';
import { listen, make, makeButton } from '../lib/dom.js';
import { percent, spelled } from '../lib/format.js';
import { NAMES } from '../lib/threshold.js';
import { startBeside } from './beside.js';

const MOST = 24;   // presses that wait: as many as versions are kept
const TYPES_TEXT = 'textarea, [contenteditable], input:not([type="range"], [type="radio"], [type="checkbox"], [type="button"])';

const wordsOf = ([, threshold, acceptance, share, cost, chosen, cut], of = '') => [
  acceptance ? `${threshold}, acceptance ${acceptance}` : String(threshold),
  ...(chosen ? [`token ${chosen[0] + 1} → ‘${spelled(chosen[2])}’ (${NAMES[chosen[1]]})`] : []),
  `${percent(share)} LLM`,
  ...(cost === null ? [] : [`cost ${percent(cost)}${of}`]),
  ...(cut ? ['cut short'] : []),
];

const draw = (button, version) => {
  const [at, ...more] = wordsOf(version);
  button.replaceChildren(make('b', '', at), ...more.flatMap((text) => [' ', make('span', '', text)]));   // read word by word
  button.title = `Threshold ${wordsOf(version, ' of LLM only').join(', ')}. Prompt: ${version.at(-1)}`;
  return button;
};

export const start = ({ element, props, trigger, watch }) => {
  const list = element.querySelector('.version-list'), steps = [...element.querySelectorAll('[data-step]')];
  const stepBy = (by) => steps.find((button) => Number(button.dataset.step) === by);
  let newest = 0;

  // One is asked for at a time, in their order: the fields follow to the text that is shown last.
  const wishes = [];
  const ask = () => {
    document.dispatchEvent(new CustomEvent('citer-start'));   // it comes by the feed
    trigger('go_to', wishes[0]);
  };
  const goTo = (data) => { if (wishes.length < MOST && wishes.push(data) === 1) ask(); };
  listen(element, 'citer-went', () => {
    wishes.shift();
    if (wishes.length) ask();
  });

  const beside = startBeside(element, list, (data) => trigger('compare', data), goTo);

  const makeVersion = (number) => {
    const button = makeButton('version');
    button.dataset.number = number;
    button.addEventListener('click', () => { if (!beside.pick(number)) goTo({ number }); });
    return button;
  };

  const drawList = ({ versions, current }) => {
    const there = new Map([...list.children].map((button) => [Number(button.dataset.number), button]));
    const numbers = new Set(versions.map(([number]) => number));
    for (const [number, button] of there) if (!numbers.has(number)) button.remove();
    for (const version of versions) {   // those that are there stay where they are, and keep the focus
      const [number] = version, button = draw(there.get(number) ?? makeVersion(number), version);
      button.setAttribute('aria-current', number === current);
      if (!there.has(number)) list.insertBefore(button, [...list.children].find((other) => Number(other.dataset.number) > number) ?? null);
    }
    const here = list.querySelector('[aria-current="true"]');
    if (here && (here.offsetLeft < list.scrollLeft || here.offsetLeft + here.offsetWidth > list.scrollLeft + list.clientWidth)) {
      list.scrollLeft = here.offsetLeft - list.offsetLeft - 8;
    }
  };

  for (const button of steps) button.addEventListener('click', () => goTo({ step: Number(button.dataset.step) }));
  listen(element, 'keydown', (event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, target } = event;
    if (!(ctrlKey || metaKey) || altKey || key.toLowerCase() !== 'z' || target.closest?.(TYPES_TEXT) || !element.getClientRects().length) return;
    event.preventDefault();
    stepBy(shiftKey ? 1 : -1).click();
  });
  follow({ props, watch }, (message) => {
    if (!message || message.at < newest) return;
    newest = message.at;
    stepBy(-1).disabled = !message.undo;
    stepBy(1).disabled = !message.redo;
    drawList(message);
    beside.take(message);
  });
};
