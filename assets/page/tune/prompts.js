// The prompts as they were read, below the box they stand in: pasted text is read as it changes, a file goes into the box.
// A file is read here, so that none is stored; what is refused changes nothing. Every text is written
// with textContent.
import { dialAt, finder, listen, say } from '../lib/dom.js';
import { counted } from '../lib/format.js';
import { asked as history } from '../stream/stream.js';

const PAUSE = 250, FEW = 20;   // milliseconds without a key before the text is read; prompts

const fieldNumber = (id) => Number(document.querySelector(`#${id} input[type="number"]`)?.value) || 0;
const duration = (seconds) => (seconds < 50 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

const box = () => document.querySelector('#tune-prompts textarea');

const textOf = async (file) => new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());

export const start = ({ element, props, server }) => {
  const find = finder(element), button = (name) => find(`[data-do="${name}"]`), picker = find('input');
  let asked = 0;   // only the newest is answered
  let timer = null, reading = null, source = '', before = null;

  const sayAt = (name, text = '') => {
    say(find(`.tune-${name}`), text);
    find(`.tune-${name}`).hidden = text === '';
  };
  const refuse = (reason) => sayAt('refused', reason);

  let preview = null;   // what was read last
  // What a run will take, said before it begins.
  const sayPlan = () => {
    const { count = 0, seconds = 0 } = preview ?? {}, settings = fieldNumber('tune-count') + 2, texts = count * settings, tokens = texts * fieldNumber('tune-limit');
    const acceptance = dialAt('acceptance'), corrected = acceptance > 0 ? `, corrected at ${acceptance} as the Playground says` : '';
    const time = seconds ? `, at most ${duration(tokens * seconds)} here` : '', few = count < FEW ? ` ${FEW} prompts or more make the result sure.` : '';
    sayAt('plan', count ? `${counted(texts, 'text')} at ${settings} settings${corrected}, at most ${tokens.toLocaleString('en')} tokens${time}.${few}` : '');
  };

  const draw = (answer) => {
    const { count, answers, kind, unused } = preview = answer;
    sayPlan();
    const answered = answers === 0 ? 'none with an answer' : answers === count ? 'each with an answer' : `${answers} with an answer`;
    refuse('');
    sayAt('read', `${counted(count, 'prompt')}, ${answered} · ${source || (kind === 'lines' ? 'one per line' : kind)}`);
    sayAt('more', unused.length > 0 ? `Not used: ${unused.join(', ')}.` : '');
  };

  // Resolves to what was read, or to why it was not (`error`).
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
    const number = ++asked, text = box()?.value ?? '', answer = text.trim() ? await read({ text }) : { error: '' };
    if (number !== asked) return;
    if (answer.error === undefined) return draw(answer);
    for (const name of ['read', 'more', 'plan']) sayAt(name);
    refuse(answer.error);
  };

  const fill = (text) => {
    const node = box();
    if (node.value !== text) before = node.value.trim() ? node.value : null;   // the same once more leaves the way back
    button('back').hidden = before === null;
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(node, text);
    node.dispatchEvent(new Event('input', { bubbles: true }));
  };

  const take = async (file) => {
    if (timer) reading = readBox();   // what was just typed is read first, or one answer would take the other's place
    await reading;
    const number = ++asked, { name, size } = file, [is, most] = [size, props.max_bytes].map((bytes) => bytes.toLocaleString('en'));
    if (size > props.max_bytes) return refuse(`${name}: ${is} bytes; at most ${most} are taken. ${props.limits} Split it.`);
    const text = await textOf(file).catch(() => null);
    const answer = text === null ? { error: `${name} is no text in UTF-8. Save it as CSV, as JSONL, or with one prompt per line.` } : await read({ name, text });
    if (number !== asked) return;
    if (answer.error !== undefined) return refuse(answer.error);
    fill(text);
    clearTimeout(timer);   // it is read already
    timer = null;
    source = name;
    draw(answer);
  };
  const takePicked = () => {
    const [file] = picker.files;
    if (file) take(file).finally(() => { picker.value = ''; });   // so that the same file can be chosen again
  };

  sayAt('limits', `Or a .csv, .jsonl or .txt file. ${props.limits}`);
  listen(element, 'input', ({ target }) => {
    if (target.closest?.('#tune-settings-card, #acceptance')) sayPlan();
    if (!target.closest?.('#tune-prompts')) return;
    source = '';
    clearTimeout(timer);
    timer = setTimeout(() => { reading = readBox(); }, PAUSE);
  });
  picker.addEventListener('change', takePicked);
  button('upload').addEventListener('click', () => picker.click());
  const drawHistory = () => { button('history').hidden = history.size === 0; };
  listen(element, 'citer-shown', drawHistory);
  drawHistory();
  // One JSON object a line: a prompt may have several lines.
  button('history').addEventListener('click', () => fill([...history].map((prompt) => `${JSON.stringify({ prompt })}\n`).join('')));
  button('example').addEventListener('click', () => fill(props.example));
  button('back').addEventListener('click', () => fill(before));
  reading = readBox();   // what was typed, and a file that was picked, before this script was there
  takePicked();
};
