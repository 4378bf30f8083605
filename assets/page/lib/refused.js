// Shows why the server refused something, in the server's own words. For calls outside its queue, gradio 6.31 forgets whether their
// errors are to be shown, and shows none. So their answers are read here.
import { make, makeButton, say } from './dom.js';

const DIRECT = '/gradio_api/run/', GONE = 'Gone';   // title of an error that says: the server has dropped this window's texts
const SHOWN = 10_000, LONGEST = 400;   // milliseconds, as long as gradio shows its errors; characters

// A line over the page, hidden at first, with a button that loads the page again. `share/storage.js` brings the text back then.
export const makeAlert = (className) => {
  const line = Object.assign(make('div', className), { role: 'alert', hidden: true }), words = make('p');
  const reload = Object.assign(makeButton(`${className}-again`, 'Load the page again'), { hidden: true });
  reload.addEventListener('click', () => location.reload());
  line.append(words, reload);
  document.body.append(line);
  return { line, words, reload };
};

const { line, words, reload } = makeAlert('refused'), close = makeButton('', 'Close');
line.append(close);
let hiding = 0;

const hide = () => { line.hidden = true; say(words, ''); };

// The server escapes its errors, since gradio shows them as HTML.
const unescaped = (text) => text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

// Returns an answer's reason, and whether loading the page again helps. Not every answer is JSON.
const read = (text) => {
  try {
    const { error, detail, title } = JSON.parse(text);
    return [unescaped(error ?? detail), title === GONE];
  } catch {
    return [text, false];
  }
};

const show = async (answer) => {
  const [reason, isGone] = read(await answer.text());
  say(words, reason.trim().slice(0, LONGEST) || `The server refused this (status ${answer.status}).`);
  line.hidden = false;
  reload.hidden = !isGone;
  clearTimeout(hiding);
  if (!isGone) hiding = setTimeout(hide, SHOWN);
};

close.addEventListener('click', hide);

const originalFetch = window.fetch;
window.fetch = async (...request) => {
  const answer = await originalFetch(...request);
  if (!answer.ok && answer.url.includes(DIRECT)) show(answer.clone()).catch(console.warn);
  return answer;
};
