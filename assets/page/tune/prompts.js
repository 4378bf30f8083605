// Says below the box how many prompts were read from it, or why none were. The browser reads a file and puts it into the box, so the
// server stores none. A file that is refused leaves the box as it was.
import { dialAt, finder, listen, onPick, say } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { prompts as history } from '../stream/stream.js';

const PAUSE = 250, FEW = 20;   // milliseconds after a key until the box is read; prompts

const fieldNumber = (id) => Number(document.querySelector(`#${id} input[type="number"]`)?.value) || 0;
const duration = (seconds) => (seconds < 50 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

const box = () => document.querySelector('#tune-prompts textarea');

const textOf = async (file) => new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());

export const start = ({ element, props, server }) => {
  const find = finder(element), button = (name) => find(`[data-do="${name}"]`), picker = find('input');
  let newest = 0;   // number of the newest reading; answers to older ones are dropped
  let timer = null, reading = null, source = '', previous = null;   // `source`: name of a file; `previous`: the box before it was filled

  const sayAt = (name, text = '') => {
    say(find(`.tune-${name}`), text);
    find(`.tune-${name}`).hidden = text === '';
  };

  let preview = null;   // the newest answer
  const sayPlan = () => {
    const { count = 0, seconds = 0 } = preview ?? {}, settings = fieldNumber('tune-count') + 2, texts = count * settings, tokens = texts * fieldNumber('tune-limit');
    const acceptance = dialAt('acceptance'), corrected = acceptance > 0 ? `, at acceptance ${acceptance} as in the Playground` : '';
    const lengths = [...history.values()], usual = Math.min(1, lengths.reduce((sum, length) => sum + length, 0) / (lengths.length * fieldNumber('tune-limit')));
    const likely = usual ? `about ${duration(usual * tokens * seconds)} if they are as long as your texts so far, ` : '';
    const time = seconds ? `; ${likely}at most ${duration(tokens * seconds)} if nothing else runs here` : '', few = count < FEW ? ` ${FEW} prompts or more give a surer result.` : '';
    sayAt('plan', count ? `${counted(texts, 'text')} at ${settings} settings${corrected}, at most ${tokens.toLocaleString('en')} tokens${time}.${few}` : '');
  };

  const draw = (answer) => {
    const { count, answers, kind, unused } = preview = answer;
    sayPlan();
    const answered = answers === 0 ? 'none with an answer' : answers === count ? 'each with an answer' : `${answers} with an answer`;
    sayAt('refused');
    sayAt('read', `${counted(count, 'prompt')}, ${answered} · ${source || (kind === 'lines' ? 'one per line' : kind)}`);
    sayAt('more', unused.length > 0 ? `Not used: ${unused.join(', ')}.` : '');
  };

  const read = async (data) => {
    try {
      return JSON.parse(await server.read_prompts(data));
    } catch {
      return { error: 'The prompts could not be read: the server does not answer. Try again.' };
    }
  };

  const readBox = async () => {
    clearTimeout(timer);
    timer = null;
    const number = ++newest, text = box()?.value ?? '', answer = text.trim() ? await read({ text }) : { error: '' };
    if (number !== newest) return;
    if (answer.error === undefined) return draw(answer);
    for (const name of ['read', 'more', 'plan']) sayAt(name);
    sayAt('refused', answer.error);
  };

  const fill = (text) => {
    const node = box();
    if (node.value !== text) previous = node.value.trim() ? node.value : null;
    button('back').hidden = previous === null;
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(node, text);
    node.dispatchEvent(new Event('input', { bubbles: true }));
  };

  const take = async (file) => {
    if (timer) reading = readBox();   // what was just typed is read first
    await reading;
    const number = ++newest, { name, size } = file, [is, most] = [size, props.max_bytes].map((bytes) => bytes.toLocaleString('en'));
    if (size > props.max_bytes) return sayAt('refused', `${name}: ${is} bytes; at most ${most} are taken. ${props.limits} Split it.`);
    const text = await textOf(file).catch(() => null);
    const answer = text === null ? { error: `${name} is no text in UTF-8. Save it as CSV, as JSONL, or with one prompt per line.` } : await read({ name, text });
    if (number !== newest) return;
    if (answer.error !== undefined) return sayAt('refused', answer.error);
    fill(text);
    clearTimeout(timer);   // `fill` has started it, and the text is read already
    timer = null;
    source = name;
    draw(answer);
  };

  sayAt('limits', `Or a .csv, .jsonl or .txt file. ${props.limits}`);
  listen(element, 'input', ({ target }) => {
    if (target.closest?.('#tune-settings-card, #acceptance')) sayPlan();
    if (!target.closest?.('#tune-prompts')) return;
    source = '';
    clearTimeout(timer);
    timer = setTimeout(() => { reading = readBox(); }, PAUSE);
  });
  button('upload').addEventListener('click', () => picker.click());
  const drawHistory = () => { button('history').hidden = history.size === 0; };
  listen(element, 'citer-shown', drawHistory);
  drawHistory();
  // JSON, since a prompt may have several lines.
  button('history').addEventListener('click', () => fill([...history.keys()].map((prompt) => `${JSON.stringify({ prompt })}\n`).join('')));
  button('example').addEventListener('click', () => fill(props.example));
  button('back').addEventListener('click', () => fill(previous));
  reading = readBox();   // the box may be filled before this script is loaded
  onPick(picker, take);
};
