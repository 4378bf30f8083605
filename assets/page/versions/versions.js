// Undo, redo, and the history of the window's texts. The server keeps the texts, so going to one runs no model.
import { follow } from '../lib/channel.js';
import { announce, listen, make, makeButton } from '../lib/dom.js';
import { percent, spelled } from '../lib/format.js';

const MOST = 24;   // waiting clicks, as many as there are versions
const TYPES_TEXT = 'textarea, [contenteditable], input:not([type="range"], [type="radio"], [type="checkbox"], [type="button"])';

// A version's name: the large model's share, and the last choice by hand.
const nameOf = ([, threshold, acceptance, share, chosen, cut]) => [
  threshold > 1 ? 'large model only' : threshold === 0 && acceptance === 0 ? 'small model only' : `${percent(share)} by the large model`,
  ...(chosen ? [`token ${chosen[0] + 1} → ‘${spelled(chosen[2])}’`] : []),
  ...(cut ? ['cut short'] : []),
].join(' · ');

const draw = (button, version) => {
  const [, threshold, acceptance] = version;
  button.replaceChildren(make('b', '', nameOf(version)), make('span', '', version.at(-1)));
  button.title = `Threshold ${threshold}${acceptance ? `, acceptance ${acceptance}` : ''}`;
  return button;
};

export const start = ({ element, props, trigger, watch }) => {
  const list = element.querySelector('.version-list'), steps = [...element.querySelectorAll('[data-step]')];
  const stepBy = (by) => steps.find((button) => Number(button.dataset.step) === by);
  let newest = 0;

  // One request at a time, in the order of the clicks, so that the fields end up at the text that is shown last.
  const waiting = [];
  const send = () => {
    announce('citer-start');   // opens the feed, which brings the text
    trigger('go_to', waiting[0]);
  };
  const goTo = (data) => { if (waiting.length < MOST && waiting.push(data) === 1) send(); };
  listen(element, 'citer-went', () => {
    waiting.shift();
    if (waiting.length) send();
  });

  const makeVersion = (run) => {
    const button = makeButton('version');
    button.dataset.run = run;
    button.addEventListener('click', () => goTo({ run }));
    return button;
  };

  const drawList = ({ versions, current }) => {
    const focused = document.activeElement, there = new Map([...list.children].map((button) => [button.dataset.run, button]));
    list.append(...versions.toReversed().map((version) => {
      const [run] = version, button = draw(there.get(run) ?? makeVersion(run), version);
      button.setAttribute('aria-current', run === current);
      there.delete(run);
      return button;
    }));
    for (const button of there.values()) button.remove();
    if (list.contains(focused)) focused.focus({ preventScroll: true });   // a moved node loses the focus
    element.querySelector('.history').hidden = versions.length < 2;
  };

  for (const button of steps) button.addEventListener('click', () => goTo({ step: Number(button.dataset.step) }));
  listen(element, 'keydown', (event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, target } = event;
    if (!(ctrlKey || metaKey) || altKey || key.toLowerCase() !== 'z' || target.closest?.(TYPES_TEXT) || !element.getClientRects().length) return;
    event.preventDefault();
    const button = stepBy(shiftKey ? 1 : -1);
    if (!button.hidden) button.click();
  });
  follow({ props, watch }, (message) => {
    if (message.at < newest) return;
    newest = message.at;
    stepBy(-1).hidden = !message.undo;
    stepBy(1).hidden = !message.redo;
    drawList(message);
  });
};
