// Says what a link filled in and what it could not. Runs as gradio's js_on_load: element, props and watch are given.
const receive = () => {
  const { said, refused } = props.value ? JSON.parse(props.value) : { said: '', refused: [] };
  element.querySelector('.link-note').hidden = !said;
  element.querySelector('p').textContent = said;
  element.querySelector('ul').replaceChildren(...refused.map((text) => Object.assign(document.createElement('li'), { textContent: text })));
};
watch('value', receive);
receive();
