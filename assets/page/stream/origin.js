// Of which settings the text is, where the page says others.
import { dialAt, finder, listen, onSlider, perFrame, say } from '../lib/dom.js';
import { counted, visible } from '../lib/format.js';
import { ACCEPTANCE, TEXT, THRESHOLD } from '../lib/threshold.js';
import { changes } from './preview.js';

const SHOWN = 60;   // characters of a prompt
const AWAITED = 'This is the text before. Yours takes its place with its first token.';

const plain = (value) => Number(value.toFixed(7));
const begun = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text);

// One value, or the first and the last of a text during which the dial was turned.
const along = (tokens, column) => {
  const [first, last] = [tokens[0], tokens.at(-1)].map((token) => plain(token[column]));
  return first === last ? first : `${first}, then ${last}`;
};

const after = (messages) => (messages ? `after ${counted(messages, 'message')}` : 'without a conversation before it');

// Where the prompt is not the text's own, or stands after another conversation: which of both Generate goes by.
const asksOther = ({ tokens, message }, box) => {
  const [prompt, , before = 0] = message.asked;
  const above = [...document.querySelectorAll('#conversation .turn-text')].map((turn) => turn.textContent);
  if (above.length === before + 2) {
    const same = above.at(-1) === tokens.map((token) => visible(token[TEXT])).join('');
    return same ? 'This text is the last answer above; Generate writes what follows it.'
      : 'The last answer above is another text; Follow up puts this one there.';
  }
  if (box.value !== prompt) return `This text answers “${begun(prompt)}”; the dials go on with that, Generate answers the prompt above.`;
  return above.length === before ? '' : `This text was written ${after(before)}; Generate answers the prompt ${after(above.length)}.`;
};

// Returns what draws it.
export const startOrigin = (text, { element }) => {
  const find = finder(element), box = () => document.querySelector('#prompt textarea'), label = () => document.querySelector('#policy input');
  let policy = null;   // where another was chosen

  const isRescored = () => policy !== null && text.tokens.length > 0 && !text.foreign && !text.message.fixed && policy !== text.message.policy;

  const sentences = () => {
    const { tokens, message } = text, { asked } = message;
    const [threshold, acceptance] = [dialAt('threshold'), dialAt('acceptance')], said = [];
    const other = asked && box() ? asksOther(text, box()) : '';
    if (other) said.push(other);
    if (isRescored()) said.push(`It is scored by ${asked?.[1]}; Generate, or a dial, takes ${label()?.value || policy}.`);
    const { flipped, unread } = changes(text, threshold, acceptance);
    if (text.over && flipped + unread > 0) {
      said.push(`It is of threshold ${along(tokens, THRESHOLD)}, acceptance ${along(tokens, ACCEPTANCE)}${message.fixed ? '; Generate writes it at the dials' : ''}.`);
    }
    return said;
  };

  const draw = perFrame(() => {
    const line = find('.stream-origin');
    line.classList.toggle('about', text.foreign || text.awaited);
    line.classList.toggle('rescored', isRescored());
    line.classList.toggle('unrecorded', text.tokens.length > 0 && !text.message.recorded);
    say(line, text.awaited ? AWAITED : text.foreign ? text.message.about : text.tokens.length ? sentences().join(' ') : '');
  });

  for (const dial of ['threshold', 'acceptance']) onSlider(element, draw, dial);
  listen(element, 'citer-dials', ({ detail }) => { policy = detail.policy; draw(); });
  listen(element, 'input', ({ target }) => { if (target === box()) draw(); });
  listen(element, 'citer-conversation', draw);
  return draw;
};
