// Why the server refused something, in its own words. Of calls that do not go through its queue gradio (6.31) loses whether their
// error is to be seen, and shows nothing. So their answers are read here.
import { make, makeButton, say } from './dom.js';

const DIRECT = '/gradio_api/run/', GONE = 'Gone';   // the title of an error where the server has this window's texts no more
const SHOWN = 10_000, LONGEST = 400;   // milliseconds, as gradio's; characters

const line = Object.assign(make('div', 'refused'), { role: 'alert', hidden: true }), words = make('p');
const again = makeButton('refused-again', 'Load the page again'), close = makeButton('', 'Close');
line.append(words, again, close);
document.body.append(line);
let hiding = 0;

const hide = () => { line.hidden = true; say(words, ''); };

// An error is escaped, since gradio shows its own as HTML.
const unescaped = (text) => text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

// What an answer says, and whether loading the page again brings this window's text back. Not every answer is JSON.
const read = (text) => {
  try {
    const { error, detail, title } = JSON.parse(text);
    return [unescaped(error ?? detail), title === GONE];
  } catch {
    return [text, false];
  }
};

const tell = async (answer) => {
  const [reason, gone] = read(await answer.text());
  say(words, reason.trim().slice(0, LONGEST) || `The server refused this (status ${answer.status}).`);
  line.hidden = false;
  again.hidden = !gone;
  clearTimeout(hiding);
  if (!gone) hiding = setTimeout(hide, SHOWN);
};

again.addEventListener('click', () => location.reload());   // share/storage.js has the text
close.addEventListener('click', hide);

const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (!answer.ok && answer.url.includes(DIRECT)) tell(answer.clone()).catch(console.warn);
  return answer;
};
