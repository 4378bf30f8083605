// Of which settings the text is, where the page says others.
import { dialAt, finder, listen, onSlider, perFrame, say } from '../lib/dom.js';
import { ACCEPTANCE, THRESHOLD } from '../lib/threshold.js';
import { changes } from './preview.js';

const SHOWN = 60;   // characters of a prompt

const plain = (value) => Number(value.toFixed(7));
const begun = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text);

// One value, or the first and the last of a text during which the dial was turned.
const along = (tokens, column) => {
  const [first, last] = [tokens[0], tokens.at(-1)].map((token) => plain(token[column]));
  return first === last ? first : `${first}, then ${last}`;
};

// Returns what draws it.
export const startOrigin = (text, { element }) => {
  const find = finder(element), box = () => document.querySelector('#prompt textarea'), label = () => document.querySelector('#policy input');
  let policy = null;   // where another was chosen

  const isRescored = () => policy !== null && text.tokens.length > 0 && !text.foreign && !text.message.fixed && policy !== text.message.policy;

  const sentences = () => {
    const { tokens, message } = text, [prompt, scoredBy] = message.asked ?? [];
    const [threshold, acceptance] = [dialAt('threshold'), dialAt('acceptance')], said = [];
    if (prompt !== undefined && box() && box().value !== prompt) {
      said.push(`This text answers “${begun(prompt)}”; the dials go on with that, Generate answers the prompt above.`);
    }
    if (isRescored()) said.push(`It is scored by ${scoredBy}; Generate, or a dial, takes ${label()?.value || policy}.`);
    const { flipped, unread } = changes(text, threshold, acceptance);
    if (text.over && flipped + unread > 0 && !Number.isNaN(threshold + acceptance)) {
      said.push(`It is of threshold ${along(tokens, THRESHOLD)}, acceptance ${along(tokens, ACCEPTANCE)}${message.fixed ? '; Generate writes it at the dials' : ''}.`);
    }
    return said;
  };

  const draw = perFrame(() => {
    find('.stream-origin').classList.toggle('about', text.foreign);
    find('.stream-origin').classList.toggle('rescored', isRescored());
    say(find('.stream-origin'), text.foreign ? text.message.about : text.tokens.length ? sentences().join(' ') : '');
  });

  for (const dial of ['threshold', 'acceptance']) onSlider(element, draw, dial);
  listen(element, 'citer-dials', ({ detail }) => { policy = detail.policy; draw(); });
  listen(element, 'input', ({ target }) => { if (target === box()) draw(); });
  return draw;
};
