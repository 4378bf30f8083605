// Draws one step of a text: what the SLM read, what the score was, who wrote. The sentences come from the server as words
// with a kind; tokens are a model's, so everything is written with textContent. Runs as gradio's js_on_load.
const write = (place, words) => place.replaceChildren(...words.map((word) => (
  typeof word === 'string' ? word : word[0] === 'b' ? make('b', '', word[1]) : make('code', `token ${word[0]}`, word[1]))));

// The tokens before the explained one; those that the model reads in this step have a frame, `all` shows the others too.
const [TEXT, AUTHOR, SLM_READS, LLM_READS] = [0, 1, 2, 3];
const context = (message, reads, all) => {
  const nodes = [], [count, ...readers] = message.prompt, prompt = readers[reads - SLM_READS];
  if (all || prompt) nodes.push(make('code', `token prompt${prompt ? ' read' : ''}`, `prompt: ${count} tokens`));
  if (message.hidden && (all || prompt)) nodes.push(make('span', 'more', `+ ${message.hidden}`));
  for (const token of message.context) {
    if (all || token[reads]) nodes.push(make('code', `token ${token[AUTHOR]}${token[reads] ? ' read' : ''}`, token[TEXT]));
  }
  return nodes;
};

const drawGauge = (gauge) => {
  const picture = find('.score-gauge').parentElement;
  picture.hidden = gauge === null;
  if (gauge === null) return;
  const [score, threshold, scoreText, thresholdText] = gauge;
  picture.style.setProperty('--score', Math.min(1, score));
  picture.style.setProperty('--threshold', Math.min(1, threshold));
  find('.score-value').textContent = scoreText;
  find('.threshold-value').textContent = thresholdText;
};

const draw = (message) => {
  find('#lesson-title').textContent = message.title;
  find('.lesson-hint').textContent = message.hint;
  find('.lesson-hint').hidden = !message.hint;
  write(find('.lesson-intro'), message.intro);
  write(find('.lesson-outro'), message.outro);
  element.querySelectorAll('.lesson-steps li').forEach((item, i) => {
    item.querySelector('h3').textContent = message.steps[i].title;
    write(item.querySelector('p'), message.steps[i].text);
  });
  const [reads, writes] = element.querySelectorAll('.tokens'), [text, author] = message.token;
  reads.replaceChildren(...context(message, SLM_READS, true));
  const unseen = author === 'llm' ? [...context(message, LLM_READS, false), make('span', 'more', '→')] : [];
  writes.replaceChildren(...unseen, make('code', `token ${author}`, text));
  drawGauge(message.gauge);
};

const receive = () => { if (props.value) draw(JSON.parse(props.value)); };
watch('value', receive);
receive();
